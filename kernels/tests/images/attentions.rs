//! Attention: the portable kernel, and the one that is selected for the device.

use super::*;

/// [B, L, H, Dh]: the transformer's and the VAE's heads with short rows, around the block of 64 and the chunks of 64,
/// head sizes that are not multiples of 16 bytes, one token.
const CASES: [[usize; 4]; 11] = [
    [1, 1, 1, 1],
    [2, 7, 3, 5],
    [1, 64, 2, 64],
    [1, 65, 1, 64],
    [2, 130, 2, 64],
    [1, 100, 1, 96],
    [1, 70, 2, 128],
    [1, 33, 1, 200],
    [1, 67, 1, 512],
    [1, 20, 1, 509],
    [1, 129, 5, 12],
];

/// The definition, in f64; `step` rounds what a chain of ops would store: scores, probabilities.
fn formula(qkv: &Tensor, step: impl Fn(Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let (batch, length, _, heads, dim) = qkv.dims5()?;
    let part = |i: usize| qkv.to_dtype(DType::F64)?.get_on_dim(2, i)?.transpose(1, 2)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = step((q.matmul(&k.t()?.contiguous()?)? / (dim as f64).sqrt())?)?;
    let weights = scores.broadcast_sub(&scores.max_keepdim(3)?)?.exp()?;
    let weights = step(weights.broadcast_div(&weights.sum_keepdim(3)?)?)?;
    step(weights.matmul(&v)?)?.transpose(1, 2)?.reshape((batch, length, heads * dim))
}

fn exactly(qkv: &Tensor) -> Result<Vec<f64>> {
    f64s(&formula(qkv, Ok)?)
}

/// f32 sums of Dh and of L terms err by the root of their number, like a random walk, relative to scores and values of
/// order 1: four deviations of that.
fn f32_bound(qkv: &Tensor) -> Result<f64> {
    let (_, length, _, _, dim) = qkv.dims5()?;
    Ok(4.0 * F32 * ((dim as f64).sqrt() + (length as f64).sqrt()) * max_abs(&f64s(qkv)?))
}

/// In bf16 the arithmetic is the same, so a result is rounded once.
#[test]
fn the_portable_kernel_agrees_with_the_definition() -> Result<()> {
    let gpu = gpu();
    for [batch, length, heads, dim] in CASES {
        for dtype in TYPES {
            let qkv = normal(&[batch, length, 3, heads, dim], 1).to_dtype(dtype)?;
            let (exact, bound) = (exactly(&qkv)?, f32_bound(&qkv)?);
            let ours = gpu_attention::portable(&qkv.to_device(&gpu)?)?;
            assert_eq!(ours.dims(), [batch, length, heads * dim]);
            let what = format!("[{batch}, {length}, 3, {heads}, {dim}] {dtype:?}");
            check(&what, &ours, &exact, |i| bound + rounding(dtype) * exact[i].abs())?;
            let cpu = f64s(&attention(&qkv)?)?;
            let apart = max_error(&f64s(&down(&ours)?)?, &cpu);
            assert!(
                apart <= 2.0 * (bound + rounding(dtype) * max_abs(&cpu)),
                "{what}: {apart:e} from the CPU"
            );
        }
    }
    Ok(())
}

/// For any selected kernel: f32 as accurate as the portable one, bf16 at most twice the error of a chain of bf16 ops, and half a
/// step of the largest result.
#[test]
fn the_chosen_kernel_agrees_with_the_definition() -> Result<()> {
    let gpu = gpu();
    for [batch, length, heads, dim] in CASES.into_iter().chain([[2, 333, 4, 64], [1, 256, 1, 512]]) {
        for dtype in TYPES {
            let qkv = normal(&[batch, length, 3, heads, dim], 1).to_dtype(dtype)?;
            let exact = exactly(&qkv)?;
            let bound = if dtype == DType::F32 {
                f32_bound(&qkv)? + F32 * max_abs(&exact)
            } else {
                let plain = formula(&qkv, |x| x.to_dtype(DType::BF16)?.to_dtype(DType::F64))?;
                2.0 * max_error(&f64s(&plain)?, &exact) + BF16 * max_abs(&exact)
            };
            let ours = attention(&qkv.to_device(&gpu)?)?;
            check(&format!("[{batch}, {length}, 3, {heads}, {dim}] {dtype:?}"), &ours, &exact, |_| bound)?;
        }
    }
    Ok(())
}

/// NaN in one value spoils that column of every query; in one key, everything of that head.
#[test]
fn nan_goes_where_the_definition_sends_it() -> Result<()> {
    let gpu = gpu();
    for part in 0..3 {
        let mut values: Vec<f32> = f64s(&normal(&[1, 80, 3, 2, 20], 1))?.iter().map(|&v| v as f32).collect();
        values[((70 * 3 + part) * 2 + 1) * 20 + 4] = f32::NAN;
        let qkv = Tensor::from_vec(values, (1, 80, 3, 2, 20), &Device::Cpu)?;
        // The formula's maximum may ignore NaN; the difference from it does not.
        let exact: Vec<bool> = exactly(&qkv)?.iter().map(|v| v.is_nan()).collect();
        let ours = f64s(&down(&gpu_attention::portable(&qkv.to_device(&gpu)?)?)?)?;
        assert!(ours.iter().map(|v| v.is_nan()).eq(exact), "part {part}");
    }
    Ok(())
}

/// Scores of thousands: the exponent's argument has an error of that size, and nothing overflows.
#[test]
fn large_scores_do_not_overflow() -> Result<()> {
    let gpu = gpu();
    let qkv = (normal(&[1, 90, 3, 2, 40], 1) * 30.0)?;
    let ours = gpu_attention::portable(&qkv.to_device(&gpu)?)?;
    let bound = f32_bound(&qkv)? * 4000.0;
    check("large scores", &ours, &exactly(&qkv)?, |_| bound)
}

#[test]
fn bits_do_not_depend_on_the_batch() -> Result<()> {
    let gpu = gpu();
    let qkv = normal(&[2, 75, 3, 2, 24], 1).to_device(&gpu)?;
    let both = gpu_attention::portable(&qkv)?;
    let second = gpu_attention::portable(&qkv.narrow(0, 1, 1)?)?;
    assert_eq!(bits(&both.narrow(0, 1, 1)?)?, bits(&second)?);
    assert!(gpu_attention::portable(&normal(&[1, 2, 3, 1, 513], 1).to_device(&gpu)?).is_err(), "too wide");
    Ok(())
}
