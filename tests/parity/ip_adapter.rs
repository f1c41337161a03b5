//! IP-Adapters with their image encoders, against diffusers' results.

use crate::golden::{Case, case, json, pixel_difference, relative_error};
use crate::init_image::image;
use crate::pipeline::{bytes, load};
use candle_core::Device as Place;
use latentd_models::{
    Control, ControlNet, DType, Device, Error, GenerateRequest, GuidanceInterval, ImageEncoderFiles,
    InitImage, IpAdapter, Lora, Observer, Pipeline, Shortcuts, SkipLayerGuidance, Step,
};
use std::path::PathBuf;

pub(crate) const WEIGHTS: &str = "ip-adapter.safetensors";

pub(crate) fn adapter(name: &str) -> PathBuf {
    case::path(&format!("ip_adapter/{name}"))
}

pub(crate) fn encoder(path: PathBuf) -> ImageEncoderFiles {
    ImageEncoderFiles { name: "siglip".into(), path, config: None, processor: None }
}

/// A case of `export_ip_adapter.py`: the request with the IP-Adapter, and diffusers' tensors.
pub(crate) fn read(name: &str) -> (Case, GenerateRequest) {
    let asked = json(&format!("ip_adapter/{name}/case.json"));
    let number = |key: &str| asked[key].as_f64().expect("a number");
    let model = ["base", "dual"].into_iter().find(|model| asked["model"] == *model);
    let case = Case::read_file(model.expect("a model"), &format!("../ip_adapter/{name}/golden.safetensors"));
    let files = adapter(asked["adapter"].as_str().expect("a name"));
    let prompt = IpAdapter {
        name: "style".into(),
        path: files.join(WEIGHTS),
        encoder: encoder(files.join("image_encoder")),
        image: image(case.tensor("picture")),
        scale: number("scale"),
    };
    let controlnet = asked["controlnet"].as_str().map(|net| ControlNet {
        name: net.into(),
        path: case::path(&format!("controlnet/{net}/model")),
        config: None,
        image: image(case.tensor("start")),
        scale: 0.8,
        start: 0.0,
        end: 1.0,
    });
    let strength = asked["strength"].as_f64();
    let init_image =
        strength.map(|strength| InitImage { image: image(case.tensor("start")), strength, mask: None });
    let steps = asked["steps"].as_u64().expect("a count") as usize;
    let ip_adapter = Some(prompt);
    let request = GenerateRequest { steps, ip_adapter, controlnet, init_image, ..case.request.clone() };
    (case, request)
}

/// The encoder's features, the projection's tokens in the first step, every step's latents and the pixels.
fn check(pipeline: &mut Pipeline, name: &str) {
    let (case, request) = read(name);
    let mut seen = Vec::new();
    let generated = pipeline.trace(&request, &mut |stage, tensor| {
        let (kind, step) = stage.split_once('.').unwrap_or((stage, "0"));
        let step = || step.parse::<usize>().expect("a step");
        let mut tensor = tensor.to_device(&Place::Cpu)?;
        let golden = match kind {
            "image_features" => {
                // Those of the unconditional branch are zeros.
                tensor = tensor.narrow(0, tensor.dim(0)? - 1, 1)?;
                kind.to_owned()
            }
            "image_tokens" if step() == 0 => kind.to_owned(),
            "latents" => format!("step.{:02}.latents", step()),
            _ => return Ok(()),
        };
        seen.push(kind.to_owned());
        let error = relative_error(&tensor, case.tensor(&golden));
        assert!(error < 1e-4, "{name}: {stage} is off by {error:e}");
        Ok(())
    });
    let generated = generated.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(seen[..2], ["image_features", "image_tokens"], "{name}");
    let steps = seen.len() - 2;
    assert!(steps > 1 && !case.has(&format!("step.{steps:02}.latents")), "{name}: {steps} steps");
    let (mean, max) = pixel_difference(&bytes(&generated), &case.images());
    assert!(mean < 0.5 && max <= 1, "{name}: pixels differ by {mean} on average, {max} at most");
}

fn pipeline(name: &str, dtype: DType, fused: bool) -> Pipeline {
    load(&read(name).0, Device::Cpu, dtype, fused)
}

pub(crate) fn generate(pipeline: &mut Pipeline, request: &GenerateRequest) -> Result<Vec<u8>, Error> {
    Ok(bytes(&pipeline.generate(request, &mut |_: Step| Control::Continue)?))
}

fn image_of(pipeline: &mut Pipeline, request: &GenerateRequest) -> Vec<u8> {
    generate(pipeline, request).expect("an image")
}

fn without(request: &GenerateRequest) -> GenerateRequest {
    GenerateRequest { ip_adapter: None, ..request.clone() }
}

/// Keys and files as published; by fused ops, and in plain candle.
#[test]
fn published_with_guidance() {
    check(&mut pipeline("guided", DType::F32, true), "guided");
    check(&mut pipeline("guided", DType::F32, false), "guided");
}

/// Keys as diffusers saves them, second attentions, two images.
#[test]
fn twice_without_guidance() {
    check(&mut pipeline("twice", DType::F32, true), "twice");
}

#[test]
fn beside_a_controlnet() {
    check(&mut pipeline("controlnet", DType::F32, true), "controlnet");
}

#[test]
fn with_an_initial_image() {
    check(&mut pipeline("init_image", DType::F32, true), "init_image");
}

/// Nothing is left of it in a request without one, and at a scale of 0 every byte is the model's alone.
#[test]
fn an_ip_adapter_is_of_its_request_alone() {
    let (_, request) = read("guided");
    let mut pipeline = pipeline("guided", DType::F32, true);
    let expected = image_of(&mut pipeline, &without(&request));
    assert_ne!(image_of(&mut pipeline, &request), expected);
    assert_eq!(image_of(&mut pipeline, &without(&request)), expected);
    let scaled = |scale| {
        let prompt = request.ip_adapter.clone().expect("an IP-Adapter");
        GenerateRequest { ip_adapter: Some(IpAdapter { scale, ..prompt }), ..request.clone() }
    };
    assert_eq!(image_of(&mut pipeline, &scaled(0.0)), expected);
    for scale in [f64::NAN, f64::INFINITY, -1.0] {
        let error = generate(&mut pipeline, &scaled(scale)).expect_err("no scale");
        assert!(error.to_string().contains("a scale that is a number, 0 or more"), "{error}");
    }
}

/// The third of three images is the same whether it is generated with the others or alone, and the files may be a folder.
#[test]
fn an_image_depends_on_no_other_of_its_request() {
    let (_, mut request) = read("guided");
    let mut pipeline = pipeline("guided", DType::F32, true);
    let three = image_of(&mut pipeline, &GenerateRequest { num_images: 3, ..request.clone() });
    request.ip_adapter.as_mut().expect("an IP-Adapter").path = adapter("published");
    let third = image_of(&mut pipeline, &GenerateRequest { skipped_images: 2, ..request });
    let (_, max) = pixel_difference(&three[2 * third.len()..], &third);
    assert!(max <= 1, "off by {max}");
}

/// With LoRA adapters, skip-layer guidance, a guidance interval and a first-block cache, and in bf16, it has an effect too.
#[test]
fn an_ip_adapter_goes_with_other_settings() {
    let (case, request) = read("guided");
    let skip_layers = SkipLayerGuidance { layers: vec![0], scale: 2.0, start: 0.1, stop: 0.9 };
    let lora = Lora { name: "a".into(), path: case::path("lora/peft.safetensors"), scale: 1.0 };
    let interval = GuidanceInterval { low: 0.2, high: 0.8 };
    let interval = Shortcuts { guidance_interval: Some(interval), ..Shortcuts::default() };
    let cache = Shortcuts { first_block_cache: Some(0.5), ..Shortcuts::default() };
    for dtype in [DType::F32, DType::Bf16] {
        let mut pipeline = load(&case, Device::Cpu, dtype, true);
        for (request, shortcuts) in [
            (request.clone(), Shortcuts::default()),
            (
                GenerateRequest { skip_layers: Some(skip_layers.clone()), ..request.clone() },
                Shortcuts::default(),
            ),
            (GenerateRequest { loras: vec![lora.clone()], ..request.clone() }, Shortcuts::default()),
            (request.clone(), interval),
            (request.clone(), cache),
        ] {
            pipeline.set_shortcuts(shortcuts);
            let alone = image_of(&mut pipeline, &without(&request));
            let (mean, _) = pixel_difference(&image_of(&mut pipeline, &request), &alone);
            assert!(mean > 1.0, "{dtype:?}, {shortcuts:?}: off by {mean} from the model alone");
        }
    }
}

/// In bf16 the images are those of f32 but for the precision.
#[test]
fn bf16_is_near_f32() {
    let (case, request) = read("guided");
    let made = image_of(&mut pipeline("guided", DType::Bf16, true), &request);
    let (mean, _) = pixel_difference(&made, &case.images());
    assert!(mean < 6.0, "off by {mean}");
}

/// An interrupted request with a ControlNet and an IP-Adapter goes on with the same bytes.
#[test]
fn a_saved_state_goes_on_with_the_same_image_prompt() {
    let (_, request) = read("controlnet");
    let mut pipeline = pipeline("controlnet", DType::F32, true);
    let mut states = States::default();
    let whole = bytes(&pipeline.generate(&request, &mut states).expect("an image"));
    let (_, state) = states.saved.first().cloned().expect("a state");
    let again = |request: &GenerateRequest, pipeline: &mut Pipeline| {
        let mut resumed = States { given: Some(state.clone()), ..States::default() };
        let image = bytes(&pipeline.generate(request, &mut resumed).expect("an image"));
        (image, resumed.steps, resumed.notes)
    };
    let (image, steps, notes) = again(&request, &mut pipeline);
    assert_eq!((image == whole, steps), (true, request.steps - 1), "{notes:?}");
    let mut other = request.clone();
    other.ip_adapter.as_mut().expect("an IP-Adapter").scale = 0.61;
    let (_, steps, notes) = again(&other, &mut pipeline);
    assert_eq!(steps, request.steps, "{notes:?}");
    let (_, steps, notes) = again(&without(&request), &mut pipeline);
    assert_eq!(steps, request.steps, "{notes:?}");
}

/// Saves every state, or gives one.
#[derive(Default)]
struct States {
    given: Option<Vec<u8>>,
    saved: Vec<(usize, Vec<u8>)>,
    steps: usize,
    notes: Vec<String>,
}

impl Observer for States {
    fn step(&mut self, _: Step) -> Control {
        self.steps += 1;
        Control::Continue
    }

    fn note(&mut self, words: &str) {
        self.notes.push(words.into());
    }

    fn saved_state(&mut self) -> Option<Vec<u8>> {
        self.given.take()
    }

    fn wants_state(&mut self) -> bool {
        true
    }

    fn state(&mut self, steps: usize, bytes: Vec<u8>) {
        self.saved.push((steps, bytes));
    }
}

/// Needs a device, real or emulated.
#[cfg(feature = "cuda")]
mod gpu {
    use super::*;

    /// Launched op by op, and captured steps of the model alone are right before and after.
    #[test]
    fn an_image_prompt_beside_captured_steps() {
        for name in ["guided", "twice", "controlnet"] {
            let (case, request) = read(name);
            let mut pipeline = load(&case, Device::Cuda(0), DType::F32, true);
            let alone = GenerateRequest { ip_adapter: None, controlnet: None, ..request };
            let expected = image_of(&mut pipeline, &alone);
            check(&mut pipeline, name);
            assert_eq!(image_of(&mut pipeline, &alone), expected);
        }
    }
}
