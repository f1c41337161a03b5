//! Weights that stay in files or in blocks, and that all are given back.

use super::*;
use crate::gguf;

/// A step whose weights are read from files is launched op by op, which may differ from a captured one in the last bits; in
/// blocks they are uploaded as they are.
#[test]
fn a_memory_mode_does_not_change_images() {
    for case in ["base", "gguf"].map(Case::read) {
        let [resident, offload, stream] = MemoryMode::ALL.map(|memory| {
            let options = LoadOptions { memory, cache: Some(choices()), ..LoadOptions::new(GPU, DType::F32) };
            let mut pipeline =
                Pipeline::load(&ModelSource::Directory(case.model()), &options).expect("a model");
            generate(&mut pipeline, &case.request)
        });
        assert!(resident == offload, "{}: another image", case.name);
        let (mean, max) = pixel_difference(&resident, &stream);
        assert!(mean < 0.1 && max <= 1, "{}: off by {mean} on average, {max} at most", case.name);
    }
}

/// Those of a GGUF file, which products dequantize: launched op by op, and in a captured step.
#[test]
fn weights_in_blocks() {
    let case = Case::read("gguf");
    gguf::generate(&ModelSource::Directory(case.model()), GPU);
    let captured = generate(&mut load(&case, DType::F32, true), &case.request);
    let (mean, max) = pixel_difference(&captured, &case.images());
    assert!(mean < 0.5 && max <= 3, "captured, off by {mean} on average, {max} at most");
}

/// Weights, streams, workspaces, kernels, captured steps and their memory, and threads' copies of candle's constants.
#[test]
fn a_dropped_model_leaks_no_memory() {
    let case = Case::read("base");
    let watching = DeviceHandle::open(0, None).expect("a GPU");
    let used = || MemoryUse::of(watching.device()).expect("the driver answers").now;
    let before = used();
    for round in 0..20 {
        let mut pipeline = load(&case, DType::Bf16, true);
        assert!(used() > before);
        // Most memory is taken by the first request, which takes most of the time too.
        if round % 10 == 0 {
            let request = GenerateRequest { steps: 2, ..case.request.clone() };
            generate(&mut pipeline, &request);
            let smaller = GenerateRequest { width: request.width / 2, ..request };
            generate(&mut pipeline, &smaller);
        }
        drop(pipeline);
        assert_eq!(used(), before, "round {round}");
    }
}
