//! NaN, infinity and overflow in the weights of each stage: an error that names the stage, never an image.
//!
//! Every tensor of a stage is tried: either the stage is named, or no number of it was used and the image is the same.

#[path = "support/copy.rs"]
mod copy;
#[path = "support/edit.rs"]
mod edit;

use candle_core::Tensor;
use copy::{copy, golden};
use edit::edit;
use latentd_models::{
    Control, DType, Device, Error, GenerateRequest, Image, InitImage, LoadOptions, Observer, Pipeline,
    Result, SafetyOptions, SafetySource, Stage, Step,
};
use latentd_models::{Generated, ModelSource};
use std::path::Path;

const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: "a fox".into(),
        negative_prompt: String::new(),
        width: 32,
        height: 32,
        steps: 2,
        guidance: 3.0,
        seed: 1,
        num_images: 1,
        skipped_images: 0,
        t5_tokens: 16,
        check_safety: true,
        init_image: None,
        loras: Vec::new(),
        skip_layers: None,
        controlnet: None,
        ip_adapter: None,
    }
}

fn begins() -> GenerateRequest {
    let image = Image { width: 32, height: 32, rgb: (0..3 * 32 * 32).map(|at| (at % 251) as u8).collect() };
    GenerateRequest { init_image: Some(InitImage { image, strength: 0.6, mask: None }), ..request() }
}

fn load(dir: &Path, dtype: DType) -> Pipeline {
    let options = LoadOptions::new(Device::Cpu, dtype);
    Pipeline::load(&ModelSource::Directory(dir.to_path_buf()), &options).expect("a model")
}

fn generate(pipeline: &mut Pipeline, request: &GenerateRequest) -> Result<Generated> {
    pipeline.generate(request, &mut |_: Step| Control::Continue)
}

/// A fault to plant in a tensor.
#[derive(Debug, Clone, Copy)]
enum Planted {
    Nan,
    Infinite,
}

impl Planted {
    fn all_of(self, tensor: &Tensor) -> Tensor {
        let value = match self {
            Self::Nan => f32::NAN,
            Self::Infinite => f32::INFINITY,
        };
        Tensor::full(value, tensor.shape(), tensor.device()).expect("a tensor")
    }
}

/// Names of a file's tensors that match.
fn names(file: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let tensors = candle_core::safetensors::load(file, &candle_core::Device::Cpu).expect("tensors");
    let mut names: Vec<_> = tensors.into_keys().filter(|name| wanted(name)).collect();
    names.sort();
    names
}

/// Plants the fault in every matching tensor of a file, one at a time. `unused` are those that do not affect the result.
fn sweep(
    file: &str,
    request: &GenerateRequest,
    wanted: impl Fn(&str) -> bool,
    is_stage: impl Fn(Stage) -> bool,
    unused: &[&str],
) {
    let clean = generate(&mut load(&golden(), DType::F32), request).expect("an image").images;
    let all = names(&golden().join(file), wanted);
    assert!(all.len() > 10, "{file} has {} of them", all.len());
    for name in all {
        for planted in [Planted::Nan, Planted::Infinite] {
            let dir = copy();
            edit(&dir.path().join(file), |tensors| {
                let damaged = planted.all_of(&tensors[&name]);
                tensors.insert(name.clone(), damaged);
            });
            let made = generate(&mut load(dir.path(), DType::F32), request);
            match made {
                Err(Error::NonFinite { stage }) => assert!(is_stage(stage), "{name}, {planted:?}: {stage}"),
                Err(other) => panic!("{name}, {planted:?}: {other}"),
                Ok(made) => {
                    assert!(
                        unused.iter().any(|known| name.contains(known)),
                        "{name}, {planted:?} is an image"
                    );
                    assert_eq!(made.images, clean, "{name}, {planted:?} is another image");
                }
            }
        }
    }
}

fn any(_: &str) -> bool {
    true
}

#[test]
fn clip_l() {
    sweep("text_encoder/model.safetensors", &request(), any, |stage| stage == Stage::ClipL, &[]);
}

#[test]
fn clip_g() {
    sweep("text_encoder_2/model.safetensors", &request(), any, |stage| stage == Stage::ClipG, &[]);
}

#[test]
fn t5() {
    sweep("text_encoder_3/model.safetensors", &request(), any, |stage| stage == Stage::T5, &[]);
}

#[test]
fn transformer() {
    let is_step = |stage| matches!(stage, Stage::Step { step: 1, of: 2 });
    // The last block's text output is not used, so its queries have no effect.
    let unused = ["transformer_blocks.1.attn.add_q_proj", "transformer_blocks.1.attn.norm_added_q"];
    sweep("transformer/diffusion_pytorch_model.safetensors", &request(), any, is_step, &unused);
}

#[test]
fn vae_decoder() {
    let is_part = |name: &str| name.starts_with("decoder.");
    sweep(VAE, &request(), is_part, |stage| stage == Stage::VaeDecoder, &[]);
}

#[test]
fn vae_encoder() {
    let is_part = |name: &str| name.starts_with("encoder.");
    sweep(VAE, &begins(), is_part, |stage| stage == Stage::VaeEncoder, &[]);
}

/// Both kinds of classifiers. A failed check is an error, not a black image.
#[test]
fn safety_checker() {
    let mut pipeline = load(&golden(), DType::F32);
    for kind in ["plain", "compvis"] {
        let clean = golden().join("../../safety").join(kind);
        let names = names(&clean.join("model.safetensors"), |name| !name.ends_with("position_ids"));
        assert!(names.len() > 10, "{kind} has {}", names.len());
        for (name, planted) in names.iter().flat_map(|name| [(name, Planted::Nan), (name, Planted::Infinite)])
        {
            let dir = tempfile::tempdir().expect("a directory");
            copy::copy_all(&clean, dir.path());
            edit(&dir.path().join("model.safetensors"), |tensors| {
                let damaged = planted.all_of(&tensors[name]);
                tensors.insert(name.clone(), damaged);
            });
            let source = SafetySource::Directory(dir.path().to_path_buf());
            let options = SafetyOptions { source, threshold: None, forced: false };
            pipeline.set_safety(&options).expect("a checker");
            match generate(&mut pipeline, &request()) {
                Err(Error::NonFinite { stage: Stage::SafetyChecker }) => {}
                Err(other) => panic!("{kind}: {name}, {planted:?}: {other}"),
                Ok(_) => panic!("{kind}: {name}, {planted:?} is a verdict"),
            }
        }
    }
}

/// Finite weights whose products are not, in both precisions: in f32 above 3.4e38.
#[test]
fn overflow() {
    let cases = [
        ("text_encoder/model.safetensors", "text_projection.weight", Stage::ClipL),
        ("text_encoder_2/model.safetensors", "text_projection.weight", Stage::ClipG),
        ("text_encoder_3/model.safetensors", "encoder.final_layer_norm.weight", Stage::T5),
        (
            "transformer/diffusion_pytorch_model.safetensors",
            "proj_out.weight",
            Stage::Step { step: 1, of: 2 },
        ),
        (VAE, "decoder.conv_out.weight", Stage::VaeDecoder),
        (VAE, "encoder.conv_out.weight", Stage::VaeEncoder),
    ];
    for (file, name, expected) in cases {
        for dtype in [DType::F32, DType::Bf16] {
            let dir = copy();
            edit(&dir.path().join(file), |tensors| {
                let large = Tensor::full(3e38f32, tensors[name].shape(), &candle_core::Device::Cpu);
                tensors.insert(name.into(), large.expect("a tensor"));
            });
            match generate(&mut load(dir.path(), dtype), &begins()) {
                Err(Error::NonFinite { stage }) => match (stage, expected) {
                    (Stage::Step { .. }, Stage::Step { .. }) => {}
                    _ => assert_eq!(stage, expected, "{name} in {dtype:?}"),
                },
                other => panic!("{name} in {dtype:?}: {:?}", other.map(|made| made.flagged())),
            }
        }
    }
}

/// A VAE with values beyond the range of fp16 (65,504) and `force_upcast`: it is never computed in fp16, and bf16 has the
/// range of f32.
#[test]
fn a_vae_that_overflows_in_fp16_does_not_here() {
    const FACTOR: f64 = 1e7;
    let plain = generate(&mut load(&golden(), DType::F32), &request()).expect("an image");
    let dir = copy();
    edit(&dir.path().join(VAE), |tensors| {
        // The output of this convolution is normalised next.
        for name in ["weight", "bias"] {
            let name = format!("decoder.mid_block.resnets.0.conv1.{name}");
            let scaled = (&tensors[&name] * FACTOR).expect("a tensor");
            tensors.insert(name, scaled);
        }
    });
    let [exact, rounded] = [DType::F32, DType::Bf16]
        .map(|dtype| generate(&mut load(dir.path(), dtype), &request()).expect("an image").images.remove(0));
    let rgb = |image: &Image| image.rgb.clone();
    let difference = |a: Vec<u8>, b: Vec<u8>| {
        let sum: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        sum / a.len() as f64
    };
    assert!(difference(rgb(&exact), rgb(&plain.images[0])) < 0.5, "f32");
    assert!(difference(rgb(&rounded), rgb(&plain.images[0])) < 12.0, "bf16");
}

/// An encoding with non-finite numbers is not cached: the second request fails like the first.
#[test]
fn a_failed_prompt_is_not_cached() {
    let dir = copy();
    edit(&dir.path().join("text_encoder_3/model.safetensors"), |tensors| {
        let name = "encoder.final_layer_norm.weight";
        let damaged = Planted::Nan.all_of(&tensors[name]);
        tensors.insert(name.into(), damaged);
    });
    let mut pipeline = load(dir.path(), DType::F32);
    assert!(pipeline.prefetcher().prefetch(&request()).is_err());
    for _ in 0..2 {
        let error = generate(&mut pipeline, &request()).expect_err("a failure");
        assert!(matches!(error, Error::NonFinite { stage: Stage::T5 }), "{error}");
        assert!(error.to_string().starts_with("the text encoder T5 computed numbers that are not finite"));
    }
}

/// If the VAE's decoder fails, no preview is sent: it would be black.
#[test]
fn no_preview_is_black() {
    struct Viewer(usize);
    impl Observer for Viewer {
        fn step(&mut self, _: Step) -> Control {
            Control::Continue
        }

        fn wants_preview(&mut self) -> bool {
            true
        }

        fn preview(&mut self, _: Image) {
            self.0 += 1;
        }
    }
    for (damaged, shown) in [(false, true), (true, false)] {
        let dir = copy();
        edit(&dir.path().join(VAE), |tensors| {
            let name = "decoder.conv_out.bias";
            if damaged {
                let nan = Planted::Nan.all_of(&tensors[name]);
                tensors.insert(name.into(), nan);
            }
        });
        let mut viewer = Viewer(0);
        let made = load(dir.path(), DType::F32).generate(&request(), &mut viewer);
        assert_eq!((made.is_err(), viewer.0 > 0), (damaged, shown));
    }
}
