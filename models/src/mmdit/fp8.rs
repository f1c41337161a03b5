//! How far fp8 is from f32 on one transformer with the same random weights; needs a CUDA device, real or emulated.

use super::{Additions, Mmdit};
use crate::config::TransformerConfig;
use crate::target::Target;
use crate::weights::Weights;
use crate::{DType, Device, LoadOptions, random};
use candle_core::Tensor;

/// SD3.5 Medium in small: qk norm, a second attention in the first block, widths that 16 divides.
fn config() -> TransformerConfig {
    serde_json::from_value(serde_json::json!({
        "attention_head_dim": 32, "num_attention_heads": 2, "num_layers": 3, "patch_size": 2, "in_channels": 16,
        "joint_attention_dim": 48, "caption_projection_dim": 64, "pooled_projection_dim": 32,
        "pos_embed_max_size": 8, "dual_attention_layers": [0], "qk_norm": "rms_norm"
    }))
    .expect("a config")
}

/// The velocity of random latents in a precision, as f32 values.
fn velocity(dtype: DType) -> Vec<f32> {
    let target = Target::new(&LoadOptions::new(Device::Cuda(0), dtype)).expect("a GPU");
    let device = &target.device;
    random::seed(device, 7).expect("a seed");
    let normal = |shape: &[usize]| {
        random::normal("input", shape, 0.0, 1.0, device)
            .and_then(|x| x.to_dtype(target.dtype))
            .expect("noise")
    };
    let (latents, text, pooled) = (normal(&[2, 16, 12, 8]), normal(&[2, 20, 48]), normal(&[2, 32]));
    let weights = Weights::random("transformer", &target).expect("weights");
    let mmdit = Mmdit::load(&weights, &config()).expect("a model");
    let prepared = mmdit.prepare(&text, &pooled, &[500.0]).expect("modulations");
    let velocity = mmdit.forward(&latents, &prepared, 0, None, Additions::default()).expect("a forward");
    let f32s = |x: Tensor| x.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1();
    f32s(velocity).expect("values")
}

/// `|ours - exact| / |exact|`.
fn error(ours: &[f32], exact: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    let off = norm(&mut ours.iter().zip(exact).map(|(a, b)| f64::from(a - b)));
    off / norm(&mut exact.iter().map(|b| f64::from(*b)))
}

/// e4m3 keeps 4 bits: a value is off by 2.6 % (rms), a product of two by 3.7 %, and rounding errors of a sum are as
/// independent as its terms, so a layer's output is off by 3.7 % too. Every block adds a few such outputs to a stream
/// that is exact otherwise: three times that is the bound. bf16 keeps 8 bits, 16 times less.
#[test]
fn fp8_is_within_its_bound_and_is_not_bf16() {
    let exact = velocity(DType::F32);
    let (bf16, fp8) = (error(&velocity(DType::Bf16), &exact), error(&velocity(DType::Fp8), &exact));
    assert!(bf16 < 0.11 / 8.0, "bf16 is off by {bf16:.4}");
    assert!(fp8 < 0.11 && fp8 > 2.0 * bf16, "fp8 is off by {fp8:.4}, bf16 by {bf16:.4}");
}
