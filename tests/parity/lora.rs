//! LoRA adapters in each format of keys, against diffusers' results.

use crate::golden::{Case, case, json, pixel_difference, relative_error};
use crate::pipeline::{bytes, load};
use latentd_models::{Control, DType, Device, GenerateRequest, Lora, Pipeline, Step};

/// The request of a case of `export_lora.py`.
pub(crate) fn request(base: &Case, name: &str) -> GenerateRequest {
    let files = json("lora/cases.json")[name]["files"].clone();
    let loras = files.as_array().expect("files").iter().map(|file| {
        let name = format!("lora/{}.safetensors", file[0].as_str().expect("a name"));
        Lora { path: case::path(&name), name, scale: file[1].as_f64().expect("a scale") }
    });
    GenerateRequest { steps: 2, loras: loras.collect(), ..base.request.clone() }
}

/// Compares text, latents and pixels of a case.
pub(crate) fn check(pipeline: &mut Pipeline, base: &Case, name: &str) {
    let golden = Case::read_file("base", &format!("../lora/golden_{name}.safetensors"));
    let mut seen = 0;
    let generated = pipeline.trace(&request(base, name), &mut |stage, tensor| {
        // The prompt's row is the last.
        let prompt = tensor.narrow(0, tensor.dim(0)? - 1, 1)?;
        let (ours, golden_name) = match stage.split_once('.') {
            None if stage == "context" => (prompt, "prompt_embeds".to_owned()),
            None if stage == "pooled" => (prompt, stage.to_owned()),
            Some(("latents", step)) => {
                (tensor.clone(), format!("step.{:02}.latents", step.parse::<usize>().expect("a step")))
            }
            _ => return Ok(()),
        };
        if !golden.has(&golden_name) {
            return Ok(());
        }
        let ours = ours.to_device(&candle_core::Device::Cpu)?;
        let error = relative_error(&ours, golden.tensor(&golden_name));
        assert!(error < 1e-4, "{name}: {stage} is off by {error:e}");
        seen += 1;
        Ok(())
    });
    let generated = generated.unwrap_or_else(|error| panic!("{name}: {error}"));
    let changes_text = name.contains("text") || name == "all";
    assert_eq!(seen, if changes_text { 4 } else { 2 }, "stages seen");
    let (mean, max) = pixel_difference(&bytes(&generated), &golden.images());
    assert!(mean < 0.5 && max <= 3, "{name}: pixels differ by {mean} on average, {max} at most");
}

pub(crate) const CASES: [&str; 8] =
    ["peft", "kohya", "comfy", "sai", "two", "text_peft", "text_kohya", "all"];

/// One pipeline for all, so that each case also shows that the one before left nothing.
#[test]
fn every_format_and_sums_of_two() {
    let base = Case::read("base");
    let mut pipeline = load(&base, Device::Cpu, DType::F32, true);
    for name in CASES {
        check(&mut pipeline, &base, name);
    }
    check(&mut pipeline, &base, "peft");
}

/// sd-scripts stores alpha as an integer unless it is told a precision.
#[test]
fn an_alpha_may_be_an_integer() {
    let base = Case::read("base");
    let cpu = candle_core::Device::Cpu;
    let folder = tempfile::tempdir().expect("a directory");
    let kohya =
        candle_core::safetensors::load(case::path("lora/kohya.safetensors"), &cpu).expect("an adapter");
    let [mut whole, mut float] = [kohya.clone(), kohya];
    let alphas: Vec<_> = whole.keys().filter(|name| name.ends_with(".alpha")).cloned().collect();
    assert!(!alphas.is_empty());
    for name in alphas {
        whole.insert(name.clone(), candle_core::Tensor::new(3i64, &cpu).expect("a number"));
        float.insert(name, candle_core::Tensor::new(3f32, &cpu).expect("a number"));
    }
    let mut pipeline = load(&base, Device::Cpu, DType::F32, true);
    let images = [whole, float].map(|tensors| {
        let path = folder.path().join("adapter.safetensors");
        candle_core::safetensors::save(&tensors, &path).expect("saved");
        let lora = Lora { path, name: "adapter".into(), scale: 1.0 };
        let request = GenerateRequest { steps: 2, loras: vec![lora], ..base.request.clone() };
        bytes(&pipeline.generate(&request, &mut |_: Step| Control::Continue).expect("an image"))
    });
    assert_eq!(images[0], images[1]);
}

#[test]
fn in_plain_candle() {
    let base = Case::read("base");
    check(&mut load(&base, Device::Cpu, DType::F32, false), &base, "all");
}

/// Weights are never changed: without adapters, or with a scale of 0, every byte is that of the model alone.
#[test]
fn nothing_is_left_of_an_adapter() {
    let base = Case::read("base");
    let mut pipeline = load(&base, Device::Cpu, DType::F32, true);
    let mut generate = |request: &GenerateRequest| {
        bytes(&pipeline.generate(request, &mut |_: Step| Control::Continue).expect("an image"))
    };
    let alone = generate(&base.request);
    let changed = GenerateRequest { steps: base.request.steps, ..request(&base, "all") };
    assert_ne!(generate(&changed), alone);
    assert_eq!(generate(&base.request), alone);
    let mut without = changed.clone();
    without.loras.iter_mut().for_each(|lora| lora.scale = 0.0);
    assert_eq!(generate(&without), alone);
    assert_ne!(generate(&changed), alone);
}

/// bf16 has 8 bits: an adapter's image differs from that in f32 about as much as the model's own does.
#[test]
fn in_bf16() {
    let base = Case::read("base");
    let difference = |request: &GenerateRequest| {
        let of = |dtype| {
            let mut pipeline = load(&base, Device::Cpu, dtype, true);
            bytes(&pipeline.generate(request, &mut |_: Step| Control::Continue).expect("an image"))
        };
        pixel_difference(&of(DType::Bf16), &of(DType::F32)).0
    };
    let (alone, adapted) = (difference(&base.request), difference(&request(&base, "all")));
    assert!(adapted <= 3.0 * alone, "with adapters bf16 is off by {adapted}, without by {alone}");
}

/// Needs a device, real or emulated.
#[cfg(feature = "cuda")]
mod gpu {
    use super::*;

    /// Steps are captured for the base model and for adapters of each rank, and used again after others.
    #[test]
    fn captured_steps_follow_the_adapters() {
        let base = Case::read("base");
        let mut pipeline = load(&base, Device::Cuda(0), DType::F32, true);
        let mut generate = |request: &GenerateRequest| {
            bytes(&pipeline.generate(request, &mut |_: Step| Control::Continue).expect("an image"))
        };
        let alone = generate(&base.request);
        for name in ["peft", "comfy", "peft", "all"] {
            let golden = Case::read_file("base", &format!("../lora/golden_{name}.safetensors"));
            let (mean, max) = pixel_difference(&generate(&request(&base, name)), &golden.images());
            assert!(mean < 0.5 && max <= 3, "{name}: pixels differ by {mean} on average, {max} at most");
        }
        // The same tensors with other values.
        let mut half = request(&base, "peft");
        half.loras[0].scale /= 2.0;
        let captured = generate(&half);
        assert_ne!(captured, generate(&request(&base, "peft")));
        assert_eq!(generate(&half), captured);
        assert_eq!(generate(&base.request), alone);
    }
}
