//! Damaged, wrong or malicious files: one error that names the file and what to do, with little memory.

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

/// More than the memory of a small model and the test's threads, and less than any size that these files claim.
const MEMORY: u64 = 300_000_000;

fn source(dir: &Path) -> ModelSource {
    ModelSource::Directory(dir.to_path_buf())
}

fn transformer(dir: &Path) -> PathBuf {
    dir.join("transformer/diffusion_pytorch_model.safetensors")
}

/// The error of loading the transformer, which must be short and take little memory.
fn refusal(dir: &Path) -> String {
    short(DenoiseBench::load(&source(dir), &OPTIONS).map(drop))
}

/// The error of loading the whole model.
fn refusal_of_all(dir: &Path) -> String {
    short(Pipeline::load(&source(dir), &OPTIONS).map(drop))
}

/// The error of reading the config files.
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

/// Checks that an error is one line with all these words.
fn assert_mentions(error: &str, words: &[&str]) {
    assert!(!error.contains('\n'), "more than a line: {error}");
    for word in words {
        assert!(error.contains(word), "no \"{word}\" in: {error}");
    }
}
