//! The GPU's ops over images and latents, and its attention, against the formulas in f64 and against the CPU's ops.
//! Needs a GPU, and fails without one.
#![cfg(feature = "cuda")]

mod attentions;
mod group_norms;
mod latents;
mod maps;
#[expect(dead_code, reason = "the ops' own tests use the rest")]
#[path = "../../src/testing.rs"]
mod testing;

use candle_core::{DType, Device, Result, Tensor};
use latentd_kernels::cuda::latents::{add_positions, guided_step, patchify};
use latentd_kernels::cuda::{self, Arena, Graph, attention as gpu_attention, elementwise, warm_up};
use latentd_kernels::{Activation, attention, group_norm};
use testing::{f64s, max_abs, max_error, normal};

const TYPES: [DType; 2] = [DType::F32, DType::BF16];

/// Half a step of f32 and of bf16, relative to the number rounded.
const F32: f64 = 1.0 / (1u64 << 24) as f64;
const BF16: f64 = 1.0 / 256.0;

fn gpu() -> Device {
    cuda::open(0, None).expect("these tests need a GPU")
}

/// Half a step of the storage type.
fn rounding(dtype: DType) -> f64 {
    if dtype == DType::F32 { F32 } else { BF16 }
}

fn down(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)
}

fn bits(x: &Tensor) -> Result<Vec<u64>> {
    Ok(f64s(&down(x)?)?.iter().map(|v| v.to_bits()).collect())
}

fn channels_last(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))
}

/// Every difference within `bound` of its position.
fn check(what: &str, ours: &Tensor, exact: &[f64], bound: impl Fn(usize) -> f64) -> Result<()> {
    let ours = f64s(&down(ours)?)?;
    assert_eq!(ours.len(), exact.len(), "{what}");
    for (i, (ours, exact)) in ours.iter().zip(exact).enumerate() {
        let same = ours == exact || ours.is_nan() && exact.is_nan();
        assert!(
            same || (ours - exact).abs() <= bound(i),
            "{what}: {ours} for {exact} at {i}, allowed {:e}",
            bound(i)
        );
    }
    Ok(())
}
