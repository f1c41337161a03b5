//! Loading a transformer of nearly a gigabyte takes little more memory than its weights, and denoising without them in
//! memory far less.
//!
//! This file has one test, since it measures the peak memory of its process.

#[path = "../examples/loading/make.rs"]
mod make;
#[path = "support/peak.rs"]
mod peak;

use latentd_models::bench::{DenoiseBench, DenoiseSpec};
use latentd_models::{DType, Device, LoadOptions, MemoryMode, ModelSource};
use make::Sizes;
use peak::peak_resident_bytes;

/// Memory besides the weights: code, the block of random values for writing the files, and buffers for reading.
const BESIDES: u64 = 40_000_000;

/// Products with one matrix of 5 x 1536 times 1536 at most, in bf16 and packed in f32, the position table, and buffers.
const STREAMED: u64 = 300_000_000;

#[test]
fn memory_is_that_of_the_weights_or_far_less_where_they_are_streamed() {
    let dir = tempfile::tempdir().expect("a directory");
    // Like Medium, narrower and with fewer blocks.
    let sizes = Sizes { blocks: 8, width: 24, positions: 96, dual: 2 };
    let bytes = make::make(dir.path(), &sizes).expect("a model");
    assert!(bytes > 700_000_000, "{bytes}");
    let source = ModelSource::Directory(dir.path().to_path_buf());
    let before = peak_resident_bytes().expect("a peak");
    assert!(before < BESIDES, "making the files took {before} bytes");
    let options = LoadOptions::new(Device::Cpu, DType::Bf16);
    let streaming = LoadOptions { memory: MemoryMode::Stream, ..options.clone() };
    let mut streamed = DenoiseBench::load(&source, &streaming).expect("a model");
    let spec = DenoiseSpec { width: 64, height: 64, steps: 1, guidance: 4.5, batch: 1, text_tokens: 77 };
    streamed.run(&spec).expect("a step");
    drop(streamed);
    let peak = peak_resident_bytes().expect("a peak");
    assert!(peak < STREAMED, "{peak} bytes at most without the weights");
    let loaded = DenoiseBench::load(&source, &options).expect("a model");
    let peak = peak_resident_bytes().expect("a peak");
    assert_eq!(loaded.parameters() * 2, bytes);
    assert!(peak <= bytes + bytes / 10 + BESIDES, "{peak} bytes at most for {bytes} bytes of weights");
    assert!(peak > bytes, "{peak} bytes at most: the weights are not in memory");
}
