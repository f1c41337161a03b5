//! GGUF files: each type's values are ggml's own, and a model with them generates what diffusers does with these values.

use crate::golden::case::path;
use crate::golden::{Case, pixel_difference, relative_error};
use crate::pipeline::bytes;
use candle_core::Device as Place;
use latentd_models::{DType, Device, Generated, LoadOptions, ModelSource, Pipeline};
use std::path::Path;

/// Every step in f32, and the image.
pub(crate) fn generate(source: &ModelSource, device: Device) -> Generated {
    let case = Case::read("gguf");
    let mut pipeline = Pipeline::load(source, &LoadOptions::new(device, DType::F32)).expect("a model");
    let generated = pipeline.trace(&case.request, &mut |stage, tensor| {
        if let Some(step) = stage.strip_prefix("latents.") {
            let golden = case.tensor(&format!("step.{:02}.latents", step.parse::<usize>().expect("a step")));
            let error = relative_error(&tensor.to_device(&Place::Cpu)?, golden);
            assert!(error < 1e-4, "step {step} is off by {error:e}");
        }
        Ok(())
    });
    let generated = generated.expect("an image");
    let (mean, max) = pixel_difference(&bytes(&generated), &case.images());
    assert!(mean < 0.5 && max <= 3, "pixels differ by {mean} on average, {max} at most");
    generated
}

/// The transformer's and T5's files in place of those in the safetensors format.
#[test]
fn in_a_directory() {
    generate(&ModelSource::Directory(path("gguf/model")), Device::Cpu);
}

/// The transformer's file as the model, and everything else from a directory.
#[test]
fn as_a_checkpoint() {
    let file = path("gguf/model/transformer/diffusion_pytorch_model.gguf");
    generate(&ModelSource::Checkpoint { file, text_encoders: Some(path("gguf/model")) }, Device::Cpu);
}

fn refusal(file: &Path) -> String {
    let source =
        ModelSource::Checkpoint { file: file.to_path_buf(), text_encoders: Some(path("gguf/model")) };
    match Pipeline::load(&source, &LoadOptions::new(Device::Cpu, DType::F32)) {
        Ok(_) => panic!("{} was loaded", file.display()),
        Err(error) => error.to_string(),
    }
}

/// Every cut, and counts that a small file cannot have, end in one sentence, without memory for what is claimed.
#[test]
fn a_damaged_file_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("damaged.gguf");
    let whole = std::fs::read(path("gguf/types.gguf")).expect("a file");
    let refused = |bytes: &[u8], words: &str| {
        std::fs::write(&file, bytes).expect("a file");
        let error = refusal(&file);
        assert!(error.contains("is no whole GGUF file") && error.contains(words), "{error}");
        assert!(!error.contains('\n') && error.len() < 600, "{error}");
    };
    for length in (5..whole.len()).step_by(97) {
        refused(&whole[..length], "download it again");
    }
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    refused(&changed(4, &1u32.to_le_bytes()), "version 1");
    refused(&changed(4, &3u32.to_be_bytes()), "big-endian");
    refused(&changed(8, &u64::MAX.to_le_bytes()), "its header");
    refused(&changed(16, &u64::MAX.to_le_bytes()), "its header");
    // The length of the first key.
    refused(&changed(24, &u64::MAX.to_le_bytes()), "its header ends in the middle");
}
