//! Loading a transformer of nearly a gigabyte takes little more memory than its weights.
//!
//! This file has one test, since it measures the peak memory of its process.

#[path = "../examples/loading/make.rs"]
mod make;
#[path = "support/peak.rs"]
mod peak;

use latentd_models::bench::DenoiseBench;
use latentd_models::{DType, Device, LoadOptions, ModelSource};
use make::Sizes;
use peak::peak_resident_bytes;

/// Memory besides the weights: code, the block of random values for writing the files, and buffers for reading.
const BESIDES: u64 = 40_000_000;

#[test]
fn loading_takes_a_tenth_more_than_the_weights() {
    let dir = tempfile::tempdir().expect("a directory");
    // Like Medium, narrower and with fewer blocks.
    let sizes = Sizes { blocks: 8, width: 24, positions: 96, dual: 2 };
    let bytes = make::make(dir.path(), &sizes).expect("a model");
    assert!(bytes > 700_000_000, "{bytes}");
    let source = ModelSource::Directory(dir.path().to_path_buf());
    let before = peak_resident_bytes().expect("a peak");
    assert!(before < BESIDES, "making the files took {before} bytes");
    let loaded = DenoiseBench::load(&source, &LoadOptions::new(Device::Cpu, DType::Bf16)).expect("a model");
    let peak = peak_resident_bytes().expect("a peak");
    assert_eq!(loaded.parameters() * 2, bytes);
    assert!(peak <= bytes + bytes / 10 + BESIDES, "{peak} bytes at most for {bytes} bytes of weights");
    assert!(peak > bytes, "{peak} bytes at most: the weights are not in memory");
}
