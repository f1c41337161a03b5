//! Skip-layer guidance, against diffusers' own.

use crate::golden::{Case, json, pixel_difference, relative_error};
use crate::pipeline::{bytes, load};
use candle_core::Device as Place;
use latentd_models::{Control, DType, Device, GenerateRequest, SkipLayerGuidance, Step};

/// A case's request with skip-layer guidance, and diffusers' tensors for it.
pub(crate) fn read(name: &'static str) -> (Case, GenerateRequest) {
    let case = Case::read_file(name, "golden_skip.safetensors");
    let asked = json(&format!("{name}/skip.json"));
    let number = |key: &str| asked[key].as_f64().expect("a number");
    let layers = asked["layers"].as_array().expect("a list").iter();
    let skip_layers = SkipLayerGuidance {
        layers: layers.map(|layer| layer.as_u64().expect("an index") as usize).collect(),
        scale: number("scale"),
        start: number("start"),
        stop: number("stop"),
    };
    let steps = asked["steps"].as_u64().expect("a count") as usize;
    let request = GenerateRequest { steps, skip_layers: Some(skip_layers), ..case.request.clone() };
    (case, request)
}

/// Every step's latents equal diffusers', and hence also which steps are guided away.
pub(crate) fn check_on(device: Device, name: &'static str) {
    let (case, request) = read(name);
    let generated = load(&case, device, DType::F32, true).trace(&request, &mut |stage, tensor| {
        if let Some(step) = stage.strip_prefix("latents.") {
            let golden = case.tensor(&format!("step.{:02}.latents", step.parse::<usize>().expect("a step")));
            let error = relative_error(&tensor.to_device(&Place::Cpu)?, golden);
            assert!(error < 1e-4, "{name}: step {step} is off by {error:e}");
        }
        Ok(())
    });
    let (mean, max) = pixel_difference(&bytes(&generated.expect("an image")), &case.images());
    assert!(mean < 0.5 && max <= 3, "{name}: pixels differ by {mean} on average, {max} at most");
}

#[test]
fn one_layer_of_two_in_the_middle_of_the_steps() {
    check_on(Device::Cpu, "base");
}

#[test]
fn two_layers_of_three_and_two_images() {
    check_on(Device::Cpu, "odd_heads");
}

#[test]
fn what_cannot_be_is_refused() {
    let (case, request) = read("base");
    let mut pipeline = load(&case, Device::Cpu, DType::F32, true);
    let skip = request.skip_layers.clone().expect("skip-layer guidance");
    for (skip, guidance, words) in [
        (
            SkipLayerGuidance { layers: vec![0, 2], ..skip.clone() },
            4.5,
            "there is no layer 2: this model has 0 to 1",
        ),
        (SkipLayerGuidance { layers: Vec::new(), ..skip.clone() }, 4.5, "at least one layer"),
        (SkipLayerGuidance { scale: f64::NAN, ..skip.clone() }, 4.5, "a scale that is a number"),
        (SkipLayerGuidance { stop: 1.5, ..skip.clone() }, 4.5, "from 0 to 1"),
        (skip, 1.0, "needs a guidance above 1"),
    ] {
        let request = GenerateRequest { guidance, skip_layers: Some(skip), ..request.clone() };
        let error = pipeline.generate(&request, &mut |_: Step| Control::Continue).expect_err(words);
        assert!(error.to_string().contains(words), "{error}");
    }
}
