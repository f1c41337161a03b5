//! A wrong directory or request is one error that says what to change.

#[path = "support/copy.rs"]
mod copy;
mod support;

use candle_core::{DType as TensorType, Device as TensorDevice, Tensor};
use copy::{copy, golden};
use latentd_models::{
    Control, DType, Device, Error, GenerateRequest, LoadOptions, ModelCard, ModelSource, Pipeline, Stage,
    Step,
};
use std::path::Path;
use support::{edit, swap};

const OPTIONS: LoadOptions = LoadOptions::new(Device::Cpu, DType::F32);

fn zeros(shape: &[usize], dtype: TensorType) -> Tensor {
    Tensor::zeros(shape, dtype, &TensorDevice::Cpu).expect("zeros")
}

fn load_error(dir: &Path) -> String {
    match Pipeline::load(&ModelSource::Directory(dir.to_path_buf()), &OPTIONS) {
        Ok(_) => panic!("it loaded"),
        Err(error) => error.to_string(),
    }
}

fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: "a fox".into(),
        negative_prompt: String::new(),
        width: 64,
        height: 48,
        steps: 3,
        guidance: 4.0,
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

#[test]
fn one_error_lists_every_tensor_that_does_not_fit() {
    let dir = copy();
    edit(&dir.path().join("transformer/diffusion_pytorch_model.safetensors"), |tensors| {
        tensors.remove("proj_out.bias").expect("proj_out.bias");
        tensors.insert("norm_out.linear.bias".into(), zeros(&[3], TensorType::F32));
        tensors.insert("unknown".into(), zeros(&[1], TensorType::F32));
    });
    edit(&dir.path().join("vae/diffusion_pytorch_model.safetensors"), |tensors| {
        tensors.insert("decoder.conv_in.bias".into(), zeros(&[12], TensorType::U8));
        tensors.remove("decoder.conv_out.weight").expect("decoder.conv_out.weight");
    });
    edit(&dir.path().join("text_encoder/model.safetensors"), |tensors| {
        tensors.remove("text_projection.weight").expect("text_projection.weight");
    });
    let error = load_error(dir.path());
    for problem in [
        "transformer: missing: proj_out.bias",
        "transformer: wrong shape: norm_out.linear.bias is [3]",
        "transformer: unused: unknown",
        "vae: wrong dtype: decoder.conv_in.bias is U8",
        "vae: missing: decoder.conv_out.weight",
        "text_encoder: missing: text_projection.weight",
    ] {
        assert!(error.contains(problem), "no \"{problem}\" in:\n{error}");
    }
}

#[test]
fn a_directory_of_another_kind_says_what_is_expected() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(load_error(dir.path()).contains("no model_index.json"));
    assert!(load_error(&dir.path().join("nowhere")).contains("is not a directory"));
    std::fs::write(dir.path().join("model_index.json"), r#"{"_class_name": "FluxPipeline"}"#)
        .expect("written");
    assert!(load_error(dir.path()).contains("StableDiffusion3Pipeline"));
}

#[test]
fn config_files_are_checked_against_each_other() {
    for (file, from, to, complaint) in [
        ("transformer/config.json", "\"rms_norm\"", "\"layer_norm\"", "qk_norm"),
        (
            "scheduler/scheduler_config.json",
            "\"invert_sigmas\": false",
            "\"invert_sigmas\": true",
            "invert_sigmas",
        ),
        ("text_encoder/config.json", "\"quick_gelu\"", "\"mish\"", "hidden_act"),
        ("vae/config.json", "\"out_channels\": 3", "\"out_channels\": 4", "out_channels"),
        ("model_index.json", "{", "", "model_index.json"),
    ] {
        let dir = copy();
        swap(&dir.path().join(file), from, to);
        let error = load_error(dir.path());
        assert!(error.contains(complaint) && error.contains(file), "{file}: {error}");
    }
}

#[test]
fn a_tokenizer_larger_than_its_encoder_is_refused_at_load() {
    let dir = copy();
    let path = dir.path().join("tokenizer/vocab.json");
    let text = std::fs::read_to_string(&path).expect("a vocabulary");
    std::fs::write(&path, text.replacen('{', "{\"unknown\": 99999, ", 1)).expect("written");
    let error = load_error(dir.path());
    assert!(error.contains("tokenizer has ids up to 99999"), "{error}");
}

#[test]
fn truncated_weights_name_the_file() {
    let dir = copy();
    let path = dir.path().join("vae/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&path).expect("weights");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("written");
    assert!(load_error(dir.path()).contains("vae/diffusion_pytorch_model.safetensors"));
    std::fs::remove_file(&path).expect("removed");
    assert!(load_error(dir.path()).contains("is missing"));
}

#[test]
fn a_request_beyond_the_model_names_the_limit() {
    let card = ModelCard::read(&ModelSource::Directory(golden())).expect("a card");
    let mut pipeline = Pipeline::load(&ModelSource::Directory(golden()), &OPTIONS).expect("a model");
    let far = card.max_side + card.size_multiple;
    for (change, complaint) in [
        (GenerateRequest { width: 0, ..request() }, "width 0".to_string()),
        (GenerateRequest { width: usize::MAX, ..request() }, "width 18446744073709551615".to_string()),
        (
            GenerateRequest { height: far, ..request() },
            format!("over this model's limit of {}", card.max_side),
        ),
        (GenerateRequest { steps: 0, ..request() }, "steps".into()),
        (GenerateRequest { num_images: 0, ..request() }, "num_images".into()),
        (GenerateRequest { t5_tokens: 513, ..request() }, "t5_tokens".into()),
        (GenerateRequest { guidance: f64::NAN, ..request() }, "guidance".into()),
    ] {
        let error = pipeline.generate(&change, &mut |_: Step| Control::Continue).expect_err("a refusal");
        assert!(matches!(&error, Error::Request(text) if text.contains(&complaint)), "{complaint}: {error}");
    }
}

/// Clients may ask for any size; the network generates in steps of 16 pixels.
#[test]
fn any_size_is_cropped_from_the_middle_of_the_next_canvas() {
    let mut pipeline = Pipeline::load(&ModelSource::Directory(golden()), &OPTIONS).expect("a model");
    let mut generate = |width, height| {
        let request = GenerateRequest { width, height, ..request() };
        pipeline.generate(&request, &mut |_: Step| Control::Continue).expect("an image").images.remove(0)
    };
    let (part, whole) = (generate(91, 33), generate(96, 48));
    assert_eq!((part.width, part.height, part.rgb.len()), (91, 33, 91 * 33 * 3));
    for (row, line) in part.rgb.chunks_exact(91 * 3).enumerate() {
        let start = ((row + 7) * 96 + 2) * 3;
        assert_eq!(line, &whole.rgb[start..start + 91 * 3], "row {row}");
    }
}

#[test]
fn a_nan_stops_the_request_and_says_where() {
    let dir = copy();
    edit(&dir.path().join("transformer/diffusion_pytorch_model.safetensors"), |tensors| {
        let bias = &tensors["proj_out.bias"];
        tensors.insert("proj_out.bias".into(), (bias * f64::NAN).expect("NaN"));
    });
    let mut pipeline =
        Pipeline::load(&ModelSource::Directory(dir.path().to_path_buf()), &OPTIONS).expect("a model");
    let error = pipeline.generate(&request(), &mut |_: Step| Control::Continue).expect_err("a failure");
    assert!(matches!(error, Error::NonFinite { stage: Stage::Step { step: 1, of: 3 } }), "{error}");
}

#[test]
fn the_observer_gets_every_step_and_can_stop() {
    let mut pipeline = Pipeline::load(&ModelSource::Directory(golden()), &OPTIONS).expect("a model");
    let mut steps = Vec::new();
    let mut record = |step: Step| {
        steps.push((step.index, step.of));
        Control::Continue
    };
    pipeline.generate(&request(), &mut record).expect("an image");
    assert_eq!(steps, [(1, 3), (2, 3), (3, 3)]);
    let stopped = pipeline.generate(&request(), &mut |_: Step| Control::Stop).expect_err("stopped");
    assert!(matches!(stopped, Error::Stopped { step: 2, of: 3 }), "{stopped}");
}

/// Images of one request equal single images only if their noise is from the same position of the generator: the first
/// of two equals the single one, whatever the batch.
#[test]
fn the_number_of_images_does_not_change_the_first() {
    let mut pipeline = Pipeline::load(&ModelSource::Directory(golden()), &OPTIONS).expect("a model");
    let mut generate = |num_images| {
        pipeline
            .generate(&GenerateRequest { num_images, ..request() }, &mut |_: Step| Control::Continue)
            .expect("images")
    };
    let (one, two) = (generate(1), generate(2));
    assert_eq!(one.images[0], two.images[0]);
    assert_ne!(two.images[0], two.images[1]);
}

#[test]
fn the_built_in_model_loads_and_generates() {
    let card = ModelCard::read(&ModelSource::Builtin).expect("a card");
    let mut pipeline = Pipeline::load(&ModelSource::Builtin, &OPTIONS).expect("the built-in model");
    assert_eq!(pipeline.card(), &card);
    assert!(card.max_side >= 1024, "the default size fits");
    let side = 4 * card.size_multiple;
    let small = GenerateRequest { width: side, height: side, ..request() };
    let made = pipeline.generate(&small, &mut |_: Step| Control::Continue).expect("an image");
    let image = &made.images[0];
    assert_eq!((image.width, image.height, image.rgb.len()), (side, side, side * side * 3));
    let (low, high) = (image.rgb.iter().min(), image.rgb.iter().max());
    assert!(
        high.zip(low).is_some_and(|(high, low)| high - low > 50),
        "an image of {low:?} to {high:?} is flat"
    );
}
