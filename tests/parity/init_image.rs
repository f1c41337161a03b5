//! Requests that start from an image, with and without a mask, against diffusers' own.

use crate::golden::{Case, json, pixel_difference, relative_error};
use crate::pipeline::{bytes, load};
use candle_core::{Device as Place, Tensor};
use latentd_models::{DType, Device, GenerateRequest, Image, InitImage};

pub(crate) fn image(pixels: &Tensor) -> Image {
    let (height, width, _) = pixels.dims3().expect("an image");
    let rgb = pixels.flatten_all().and_then(|flat| flat.to_vec1()).expect("bytes");
    Image { width, height, rgb }
}

/// A case's request with an initial image, from `golden_KIND.safetensors` and `KIND.json`; and diffusers' tensors for it.
pub(crate) fn read(name: &'static str, kind: &str) -> (Case, GenerateRequest) {
    let case = Case::read_file(name, &format!("golden_{kind}.safetensors"));
    let asked = json(&format!("{name}/{kind}.json"));
    let strength = asked["strength"].as_f64().expect("a number");
    let mask = case.has("mask").then(|| image(case.tensor("mask")));
    let init_image = InitImage { image: image(case.tensor("picture")), strength, mask };
    let steps = asked["steps"].as_u64().expect("a count") as usize;
    let request = GenerateRequest { steps, init_image: Some(init_image), ..case.request.clone() };
    (case, request)
}

/// Resizing equals Pillow's in every byte, and later stages equal diffusers' within the tolerance of all stages.
pub(crate) fn check_on(device: Device, name: &'static str, kind: &str) {
    let (case, request) = read(name, kind);
    let mut taken = 0;
    let generated = load(&case, device, DType::F32, true).trace(&request, &mut |stage, tensor| {
        let golden = match stage.strip_prefix("latents.") {
            Some(step) => format!("step.{:02}.latents", step.parse::<usize>().expect("a step")),
            None if stage == "start" => stage.to_owned(),
            None => return Ok(()),
        };
        taken += usize::from(stage != "start");
        let error = relative_error(&tensor.to_device(&Place::Cpu)?, case.tensor(&golden));
        assert!(error < 1e-4, "{name}: {stage} is off by {error:e}");
        Ok(())
    });
    let (mean, max) = pixel_difference(&bytes(&generated.expect("an image")), &case.images());
    assert!(mean < 0.5 && max <= 3, "{name}: pixels differ by {mean} on average, {max} at most");
    let steps = request.steps;
    let all = request.init_image.is_some_and(|init_image| init_image.strength == 1.0);
    assert!(taken > 1 && (taken == steps) == all, "{taken} steps of {steps}");
    assert!(!case.has(&format!("step.{taken:02}.latents")), "diffusers takes more than {taken} steps");
}

#[test]
fn shrunk_with_guidance() {
    check_on(Device::Cpu, "base", "picture");
}

#[test]
fn enlarged_and_generated_twice() {
    check_on(Device::Cpu, "odd_heads", "picture");
}

#[test]
fn inpainted_with_guidance() {
    check_on(Device::Cpu, "base", "inpaint");
}

/// Without guidance, at full strength.
#[test]
fn inpainted_twice_from_noise() {
    check_on(Device::Cpu, "dual", "inpaint");
}
