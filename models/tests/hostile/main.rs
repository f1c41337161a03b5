//! Files that are damaged, mistaken or meant to harm: one error that names the file and what to do, in little memory.

mod configs;
#[path = "../support/copy.rs"]
mod copy;
mod files;
mod index;
#[path = "../support/peak.rs"]
mod peak;
#[path = "../support/mod.rs"]
mod support;

use latentd_models::bench::DenoiseBench;
use latentd_models::{DType, Device, LoadOptions, ModelCard, ModelSource, Pipeline};
use peak::peak_resident_bytes;
use std::path::{Path, PathBuf};

const OPTIONS: LoadOptions = LoadOptions::new(Device::Cpu, DType::F32);

/// More than a small model and the test's own threads take, and less than anything that these files claim to have.
const MEMORY: u64 = 300_000_000;

fn source(dir: &Path) -> ModelSource {
    ModelSource::Directory(dir.to_path_buf())
}

fn transformer(dir: &Path) -> PathBuf {
    dir.join("transformer/diffusion_pytorch_model.safetensors")
}

/// What loading the transformer says; that it is short, and took little.
fn refusal(dir: &Path) -> String {
    short(DenoiseBench::load(&source(dir), &OPTIONS).map(drop))
}

/// What loading everything says.
fn refusal_of_all(dir: &Path) -> String {
    short(Pipeline::load(&source(dir), &OPTIONS).map(drop))
}

/// What a look at the config files says.
fn refusal_of_card(dir: &Path) -> String {
    short(ModelCard::read(&source(dir)).map(drop))
}

fn short(result: latentd_models::Result<()>) -> String {
    let error = result.expect_err("a refusal").to_string();
    assert!(error.len() < 3000, "{} bytes: {error}", error.len());
    let used = peak_resident_bytes().expect("a peak");
    assert!(used < MEMORY, "{used} bytes at most: {error}");
    error
}

/// Whether an error is one line that has all these words.
fn says(error: &str, words: &[&str]) {
    assert!(!error.contains('\n'), "more than a line: {error}");
    for word in words {
        assert!(error.contains(word), "no \"{word}\" in: {error}");
    }
}
