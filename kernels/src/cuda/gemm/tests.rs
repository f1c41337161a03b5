//! Which algorithm a product gets, with a file of choices and without. Needs a GPU, real or emulated.

use super::super::device::Gpu;
use super::*;
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// A product on a device that was just opened, as in another process.
struct Fresh {
    gpu: Arc<Gpu>,
    key: String,
    algorithm: Algorithm,
    candidates: Vec<Algorithm>,
}

fn fresh(folder: Option<&Path>) -> Fresh {
    let device = crate::cuda::open(0, folder).expect("a GPU");
    let x = Tensor::ones((256, 128), DType::BF16, &device).expect("a tensor");
    let w = Tensor::ones((512, 128), DType::BF16, &device).expect("a tensor");
    let y = crate::cuda::linear::linear(&x, &w, None, crate::Activation::None).expect("a product");
    let sums = y.to_dtype(DType::F32).and_then(|y| y.flatten_all()?.to_vec1::<f32>()).expect("values");
    assert!(sums.iter().all(|sum| *sum == 128.0));
    let Device::Cuda(device) = device else { panic!("a CUDA device") };
    let gpu = Gpu::of(&device).expect("the device's GPU");
    let gemm = gpu.gemm();
    let (shape, plan) = gemm.plans.iter().next().expect("a plan");
    let preference =
        Preference::new(WORKSPACE_BYTES, shape.w_alignment, shape.x_alignment).expect("a preference");
    let candidates =
        gemm.handle.candidates(&plan.product, &preference, CANDIDATES).expect("algorithms to choose from");
    let (key, algorithm) = (shape.to_string(), plan.algorithm);
    drop(gemm);
    Fresh { gpu, key, algorithm, candidates }
}

/// Puts another algorithm into the place of what is kept.
fn replace(by: &Fresh, old: Algorithm, new: Algorithm) {
    let mut gemm = by.gpu.gemm();
    let choices = gemm.choices.as_mut().expect("choices");
    assert_eq!(choices.keep(&by.key, new, Some(old)), new);
}

#[test]
fn a_kept_choice_is_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = fresh(Some(folder.path()));
    assert!(first.candidates.contains(&first.algorithm));
    let other = first.candidates.iter().find(|other| **other != first.algorithm).expect("another algorithm");
    replace(&first, first.algorithm, *other);
    assert_eq!(fresh(Some(folder.path())).algorithm, *other);
}

/// What the library answers to an algorithm of zeros is its own affair: refused (as on the emulator) it is replaced,
/// accepted it is followed, and the product is right with it.
#[test]
fn a_choice_that_cublaslt_refuses_is_made_anew_and_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = fresh(Some(folder.path()));
    let zeros = Algorithm { data: [0; 8] };
    replace(&first, first.algorithm, zeros);
    let accepted = {
        let gemm = first.gpu.gemm();
        let plan = gemm.plans.values().next().expect("a plan");
        gemm.handle.accepts(&plan.product, &zeros, WORKSPACE_BYTES)
    };
    let second = fresh(Some(folder.path()));
    assert!(if accepted { second.algorithm == zeros } else { second.candidates.contains(&second.algorithm) });
    let kept = second.gpu.gemm().choices.as_mut().and_then(|choices| choices.find(&second.key));
    assert_eq!(kept, Some(second.algorithm));
}

#[test]
fn without_a_folder_nothing_is_kept() {
    let product = fresh(None);
    assert!(product.candidates.contains(&product.algorithm));
    assert!(product.gpu.gemm().choices.is_none());
}
