//! ControlNets of each kind, against diffusers' results; and files that are none of this model.

use crate::golden::{Case, case, json, pixel_difference, relative_error};
use crate::init_image::image;
use crate::pipeline::{bytes, load};
use candle_core::Device as Place;
use latentd_models::{
    Control, ControlNet, DType, Device, Error, GenerateRequest, InitImage, Pipeline, SkipLayerGuidance, Step,
};
use std::path::Path;

/// A case of `export_controlnet.py`: the request with the ControlNet, diffusers' tensors, and the steps that have it.
pub(crate) fn read(name: &str) -> (Case, GenerateRequest, Vec<usize>) {
    let asked = json(&format!("controlnet/{name}/case.json"));
    let number = |key: &str| asked[key].as_f64().expect("a number");
    let model = ["base", "dual", "no_t5"].into_iter().find(|model| asked["model"] == *model);
    let case = Case::read_file(model.expect("a model"), &format!("../controlnet/{name}/golden.safetensors"));
    let net = ControlNet {
        name: name.into(),
        path: case::path(&format!("controlnet/{name}/model")),
        config: None,
        image: image(case.tensor("picture")),
        scale: number("scale"),
        start: number("start"),
        end: number("end"),
    };
    let active = asked["active"].as_array().expect("a list").iter();
    let active = active.map(|step| step.as_u64().expect("a step") as usize).collect();
    let steps = asked["steps"].as_u64().expect("a count") as usize;
    let request = GenerateRequest { steps, controlnet: Some(net), ..case.request.clone() };
    (case, request, active)
}

/// The control image's latents, what each block adds, every step's latents and the pixels.
pub(crate) fn check(pipeline: &mut Pipeline, name: &str) {
    let (case, request, active) = read(name);
    let (mut residuals, mut steps) = (Vec::new(), 0);
    let generated = pipeline.trace(&request, &mut |stage, tensor| {
        let (kind, rest) = stage.split_once('.').unwrap_or((stage, ""));
        let golden = match kind {
            "condition" => kind.to_owned(),
            "latents" => format!("step.{:02}.latents", rest.parse::<usize>().expect("a step")),
            "residual" => {
                let (step, index) = rest.split_once('.').expect("step and block");
                let (step, index): (usize, usize) =
                    (step.parse().expect("a step"), index.parse().expect("a block"));
                residuals.push(step);
                if step != active[0] {
                    return Ok(());
                }
                format!("residual.{index:02}")
            }
            _ => return Ok(()),
        };
        steps += usize::from(kind == "latents");
        let error = relative_error(&tensor.to_device(&Place::Cpu)?, case.tensor(&golden));
        assert!(error < 1e-4, "{name}: {stage} is off by {error:e}");
        Ok(())
    });
    let generated = generated.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(steps, request.steps, "steps seen");
    assert!(case.has("residual.00"));
    residuals.dedup();
    assert_eq!(residuals, active, "steps with the ControlNet");
    let (mean, max) = pixel_difference(&bytes(&generated), &case.images());
    assert!(mean < 0.5 && max <= 1, "{name}: pixels differ by {mean} on average, {max} at most");
}

fn pipeline(name: &str, fused: bool) -> Pipeline {
    load(&read(name).0, Device::Cpu, DType::F32, fused)
}

pub(crate) fn generate(pipeline: &mut Pipeline, request: &GenerateRequest) -> Result<Vec<u8>, Error> {
    Ok(bytes(&pipeline.generate(request, &mut |_: Step| Control::Continue)?))
}

#[test]
fn text_and_image_with_guidance() {
    check(&mut pipeline("joint", true), "joint");
    check(&mut pipeline("joint", false), "joint");
}

#[test]
fn image_alone_twice_without_guidance() {
    check(&mut pipeline("single", true), "single");
}

#[test]
fn without_positions_and_norms() {
    check(&mut pipeline("no_positions", true), "no_positions");
}

/// Nothing is left of it in a request without one, and with a scale of 0 or no steps every byte is the model's alone.
#[test]
fn a_controlnet_is_of_its_request_alone() {
    let (case, request, _) = read("joint");
    let mut pipeline = load(&case, Device::Cpu, DType::F32, true);
    let alone = GenerateRequest { controlnet: None, ..request.clone() };
    let expected = generate(&mut pipeline, &alone).expect("an image");
    assert_ne!(generate(&mut pipeline, &request).expect("an image"), expected);
    assert_eq!(generate(&mut pipeline, &alone).expect("an image"), expected);
    let net = request.controlnet.clone().expect("a ControlNet");
    for net in [ControlNet { scale: 0.0, ..net.clone() }, ControlNet { start: 0.95, end: 1.0, ..net.clone() }]
    {
        let request = GenerateRequest { controlnet: Some(net), ..request.clone() };
        assert_eq!(generate(&mut pipeline, &request).expect("an image"), expected);
    }
    for net in [ControlNet { scale: f64::NAN, ..net.clone() }, ControlNet { end: 1.5, ..net }] {
        let request = GenerateRequest { controlnet: Some(net), ..request.clone() };
        let error = generate(&mut pipeline, &request).expect_err("no numbers");
        assert!(error.to_string().contains("a start and an end from 0 to 1"), "{error}");
    }
}

/// The third of three images is the same whether it is generated with the others or alone.
#[test]
fn an_image_depends_on_no_other_of_its_request() {
    let (case, request, _) = read("joint");
    let mut pipeline = load(&case, Device::Cpu, DType::F32, true);
    let three = GenerateRequest { num_images: 3, ..request.clone() };
    let three = generate(&mut pipeline, &three).expect("images");
    let third = GenerateRequest { skipped_images: 2, ..request };
    let third = generate(&mut pipeline, &third).expect("an image");
    let (_, max) = pixel_difference(&three[2 * third.len()..], &third);
    assert!(max <= 1, "off by {max}");
}

/// With an initial image, with skip-layer guidance and in bf16 it has an effect too.
#[test]
fn a_controlnet_goes_with_other_fields() {
    let (case, request, _) = read("joint");
    let picture = request.controlnet.as_ref().expect("a ControlNet").image.clone();
    let init_image = InitImage { image: picture, strength: 0.7, mask: None };
    let skip_layers = SkipLayerGuidance { layers: vec![0], scale: 2.0, start: 0.1, stop: 0.9 };
    for dtype in [DType::F32, DType::Bf16] {
        let mut pipeline = load(&case, Device::Cpu, dtype, true);
        for request in [
            GenerateRequest { init_image: Some(init_image.clone()), ..request.clone() },
            GenerateRequest { skip_layers: Some(skip_layers.clone()), ..request.clone() },
        ] {
            let alone = GenerateRequest { controlnet: None, ..request.clone() };
            let alone = generate(&mut pipeline, &alone).expect("an image");
            let (mean, _) = pixel_difference(&generate(&mut pipeline, &request).expect("an image"), &alone);
            assert!(mean > 1.0, "{dtype:?}: off by {mean} from the model alone");
        }
    }
}

/// A file without a config is read by its tensors, from which all of the config follows but what diffusers' default says.
#[test]
fn a_file_needs_no_config() {
    let (case, mut request, _) = read("joint");
    let mut pipeline = load(&case, Device::Cpu, DType::F32, true);
    let expected = generate(&mut pipeline, &request).expect("an image");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("net.safetensors");
    let model = case::path("controlnet/joint/model");
    std::fs::copy(model.join("diffusion_pytorch_model.safetensors"), &file).expect("a copy");
    let net = request.controlnet.as_mut().expect("a ControlNet");
    net.path = file;
    assert_eq!(generate(&mut pipeline, &request).expect("an image"), expected);
    request.controlnet.as_mut().expect("a ControlNet").config = Some(model.join("config.json"));
    assert_eq!(generate(&mut pipeline, &request).expect("an image"), expected);
}

/// The error of a request whose ControlNet is this file or folder.
pub(crate) fn refusal(pipeline: &mut Pipeline, request: &GenerateRequest, path: &Path) -> String {
    let net = request.controlnet.clone().expect("a ControlNet");
    let net = ControlNet { path: path.to_owned(), name: "edges".into(), ..net };
    let request = GenerateRequest { controlnet: Some(net), ..request.clone() };
    match generate(pipeline, &request) {
        Err(Error::ControlNet(why)) => {
            assert!(why.starts_with("the ControlNet edges: "), "{why}");
            assert!(!why.contains(&*path.to_string_lossy()), "{why}");
            why
        }
        other => panic!("{path:?}: {other:?}"),
    }
}

#[test]
fn what_is_no_controlnet_of_the_model_is_refused() {
    let (case, request, _) = read("joint");
    let mut pipeline = load(&case, Device::Cpu, DType::F32, true);
    let folder = tempfile::tempdir().expect("a folder");
    let model = case::path("controlnet/joint/model");
    let (config, weights) = ("config.json", "diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(model.join(weights)).expect("weights");
    let text = std::fs::read_to_string(model.join(config)).expect("a config");
    let mut number = 0;
    let mut write = |config_text: &str, bytes: &[u8]| {
        number += 1;
        let path = folder.path().join(format!("net{number}"));
        std::fs::create_dir(&path).expect("a folder");
        std::fs::write(path.join(config), config_text).expect("a config");
        std::fs::write(path.join(weights), bytes).expect("weights");
        path
    };
    let cases = [
        (write(&text, &whole[..whole.len() - 10]), "diffusion_pytorch_model.safetensors"),
        (write(&text.replace("SD3ControlNetModel", "ControlNetModel"), &whole), "it is a ControlNetModel"),
        (
            write(&text.replace("\"num_attention_heads\": 3", "\"num_attention_heads\": 4"), &whole),
            "this model's is 24",
        ),
        (
            write(&text.replace("\"num_layers\": 1", "\"num_layers\": 2"), &whole),
            "missing: transformer_blocks.1.attn.to_q.weight [24, 24]",
        ),
        (write(&text.replace("\"qk_norm\": \"rms_norm\"", "\"qk_norm\": null"), &whole), "unused: "),
        (write(&text.replace("_channels\": 0", "_channels\": 1"), &whole), "a mask beside the control image"),
        (write("{", &whole), "its config: "),
        (write(&text, b"\x80\x02}q\x00X"), "diffusion_pytorch_model.safetensors"),
        (case::path("lora/peft.safetensors"), "it is no ControlNet of SD3.5"),
        (case::path("controlnet/nothing"), "there is no such file"),
    ];
    for (path, words) in cases {
        let why = refusal(&mut pipeline, &request, &path);
        assert!(why.contains(words), "{why}");
    }
    let large = GenerateRequest { width: 128, height: 256, ..request.clone() };
    let why = refusal(&mut pipeline, &large, &model);
    assert!(why.contains("positions for at most 224x224 pixels"), "{why}");
}

/// Needs a device, real or emulated.
#[cfg(feature = "cuda")]
mod gpu {
    use super::*;

    /// Launched op by op, and captured steps of the model alone are right before and after.
    #[test]
    fn beside_captured_steps() {
        for name in ["joint", "single", "no_positions"] {
            let (case, request, _) = read(name);
            let mut pipeline = load(&case, Device::Cuda(0), DType::F32, true);
            let alone = GenerateRequest { controlnet: None, ..request };
            let expected = generate(&mut pipeline, &alone).expect("an image");
            check(&mut pipeline, name);
            assert_eq!(generate(&mut pipeline, &alone).expect("an image"), expected);
        }
    }
}
