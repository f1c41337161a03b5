//! Every stage of every golden case.

use crate::golden::{Case, pixel_difference, relative_error};
use candle_core::{IndexOp, Tensor};
use latentd_models::{Control, DType, Device, Generated, LoadOptions, ModelSource, Pipeline, Step};

/// f32 has 24 bits; a few hundred additions in another order than torch's cost about 1e-6 a stage. 1e-4 allows
/// for a chain of stages but not for a wrong formula.
const STAGE: f32 = 1e-4;

pub(crate) fn load(case: &Case, device: Device, dtype: DType, fused: bool) -> Pipeline {
    let options = LoadOptions { fused, ..LoadOptions::new(device, dtype) };
    Pipeline::load(&ModelSource::Directory(case.model()), &options)
        .unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

fn check(name: &'static str, fused: bool) {
    check_on(Device::Cpu, name, fused);
}

/// Runs the case and compares each stage.
pub(crate) fn check_on(device: Device, name: &'static str, fused: bool) {
    let case = Case::read(name);
    let mut pipeline = load(&case, device, DType::F32, fused);
    let mut seen = 0;
    let generated = pipeline.trace(&case.request, &mut |stage, tensor| {
        let golden = golden_for(&case, stage, tensor);
        let error = relative_error(&tensor.to_device(&candle_core::Device::Cpu)?, &golden);
        assert!(error < STAGE, "{name} (fused: {fused}): {stage} is off by {error:e}");
        seen += 1;
        Ok(())
    });
    let generated = generated.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(seen, 4 + 2 * case.request.steps + case.request.num_images, "stages seen");
    let (mean, max) = pixel_difference(&bytes(&generated), &case.images());
    assert!(
        mean < 0.5 && max <= 3,
        "{name} (fused: {fused}): pixels differ by {mean} on average, {max} at most"
    );
}

/// diffusers' tensor for one of our stages.
fn golden_for(case: &Case, stage: &str, ours: &Tensor) -> Tensor {
    let branches = ["uncond.", "cond."];
    let per_image = |rows: Tensor| {
        let count = case.request.num_images;
        let repeated = (0..rows.dim(0).expect("rows")).flat_map(|row| vec![row as u32; count]);
        rows.index_select(&Tensor::new(repeated.collect::<Vec<_>>(), rows.device()).expect("rows"), 0)
            .expect("rows")
    };
    match stage.split_once('.') {
        None if stage == "context" => per_image(case.rows("prompt_embeds", branches)),
        None if stage == "pooled" => per_image(case.rows("pooled", branches)),
        None if stage == "start" => case.tensor("noise").clone(),
        None => case.tensor(stage).clone(),
        Some(("prediction", step)) => {
            let step: usize = step.parse().expect("a step");
            case.rows("", [&format!("step.{step:02}.uncond"), &format!("step.{step:02}.cond")])
        }
        Some(("latents", step)) => {
            case.tensor(&format!("step.{:02}.latents", step.parse::<usize>().expect("a step"))).clone()
        }
        Some(("decoded", index)) => {
            let index: usize = index.parse().expect("an index");
            let image = case.tensor("image.float").i(index..=index).expect("an image");
            assert_eq!(image.dims(), ours.dims());
            image
        }
        Some(_) => panic!("unknown stage {stage}"),
    }
}

pub(crate) fn bytes(generated: &Generated) -> Vec<u8> {
    generated.images.iter().flat_map(|image| image.rgb.clone()).collect()
}

#[test]
fn base() {
    check("base", true);
}

#[test]
fn base_in_plain_candle() {
    check("base", false);
}

#[test]
fn without_t5() {
    check("no_t5", true);
}

#[test]
fn dual_attention_in_some_layers() {
    check("dual", true);
}

#[test]
fn dual_attention_in_plain_candle() {
    check("dual", false);
}

#[test]
fn without_qk_norm() {
    check("no_qk_norm", true);
}

#[test]
fn other_head_counts_and_vae_depth() {
    check("odd_heads", true);
}

#[test]
fn sharded_weights() {
    check("sharded", true);
}

/// bf16 has 8 bits of precision, so an image in bf16 differs from f32 by at most twice as much as diffusers' own bf16.
#[test]
fn bf16_is_as_close_to_f32_as_diffusers_bf16() {
    let exact = Case::read("base");
    let rounded = Case::read_file("base", "golden_bf16.safetensors");
    let generated = load(&exact, Device::Cpu, DType::Bf16, true)
        .generate(&exact.request, &mut |_: Step| Control::Continue)
        .expect("a bf16 image");
    let (ours, _) = pixel_difference(&bytes(&generated), &exact.images());
    let (theirs, _) = pixel_difference(&rounded.images(), &exact.images());
    assert!(ours <= 2.0 * theirs, "ours is off by {ours} on average, diffusers' by {theirs}");
}
