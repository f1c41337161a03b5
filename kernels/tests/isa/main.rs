//! The ops by every instruction set that this processor has, against each other: those that a lesser one would run are tested
//! here too. One test alone, because the limit holds for the process.

use candle_core::{DType, Device, Result, Tensor};
use latentd_kernels::{self as ops, Activation, Conv2dSpec, Isa};

/// Numbers of about deviation 1, the same for a seed.
fn numbers(shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / 16_777_216.0 - 0.5) * 3.4
    };
    Tensor::from_vec(std::iter::repeat_with(next).take(shape.iter().product()).collect(), shape, &Device::Cpu)
}

/// Every op that has code for an instruction set, by name; its values in f32.
fn results(dtype: DType) -> Result<Vec<(&'static str, Vec<f32>)>> {
    let t = |shape: &[usize], seed| numbers(shape, seed)?.to_dtype(dtype);
    let (x, w, b) = (t(&[2, 70, 100], 1)?, t(&[90, 100], 2)?, t(&[90], 3)?);
    let spec = Conv2dSpec { stride: 1, padding: 1, upsample: false };
    let map = t(&[1, 40, 9, 35], 4)?;
    let channels = t(&[40], 5)?;
    let qkv = t(&[1, 150, 3, 2, 24], 6)?;
    let mask = numbers(&[150, 150], 7)?;
    let all = [
        ("linear", ops::linear(&x, &w, Some(&b), Activation::GeluTanh)?),
        ("conv2d", ops::conv2d(&map, &t(&[33, 40, 3, 3], 8)?, None, spec)?),
        (
            "conv2d x2",
            ops::conv2d(&map, &t(&[33, 40, 3, 3], 8)?, None, Conv2dSpec { upsample: true, ..spec })?,
        ),
        ("conv2d /2", ops::conv2d(&map, &t(&[33, 40, 3, 3], 8)?, None, Conv2dSpec { stride: 2, ..spec })?),
        ("attention", ops::attention(&qkv)?),
        ("biased attention", ops::biased_attention(&qkv, &mask, 0.2)?),
        ("group norm", ops::group_norm(&map, &channels, &channels, 4, 1e-6, Activation::Silu)?),
        ("rms norm", ops::rms_norm(&x, &t(&[100], 9)?, 1e-6)?),
    ];
    all.into_iter().map(|(name, y)| Ok((name, y.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?))).collect()
}

/// The least instruction set is the reference: plain loops, which the unit tests compare with f64. In f32 the others sum in
/// the same order, but round once less at each step, of some 400 steps on sums of about 20. In bf16 the result is rounded to 8
/// bits, and so are the probabilities of attention.
#[test]
fn every_instruction_set_agrees() -> Result<()> {
    let best = Isa::in_use();
    for (dtype, share) in [(DType::F32, 2e-5), (DType::BF16, 0.02)] {
        Isa::Baseline.limit();
        let expected = results(dtype)?;
        for isa in Isa::ALL.into_iter().filter(|isa| *isa <= best) {
            isa.limit();
            assert_eq!(Isa::in_use(), isa);
            for ((name, ours), (_, expected)) in results(dtype)?.iter().zip(&expected) {
                let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
                let error = ours.iter().zip(expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(
                    error <= share * largest,
                    "{name} in {dtype:?} by {}: {error} of {largest}",
                    isa.name()
                );
            }
        }
    }
    Ok(())
}
