//! Attention against plain candle in f64, and tests that its bits do not depend on threads or batch.

use super::*;
use crate::testing::{f64s, max_abs, max_error, normal, same_on_any_pool};
use candle_core::{D, DType, Device};

/// Plain candle in the type of `qkv`: three matrices of heads, the scores in full.
fn plain(qkv: &Tensor) -> Result<Tensor> {
    let (batch, seq, _, heads, dh) = qkv.dims5()?;
    let part = |i| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = (q.matmul(&k.t()?)? * (1.0 / (dh as f64).sqrt()))?;
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let probabilities = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    probabilities.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((batch, seq, heads * dh))
}

fn exact(qkv: &Tensor) -> Result<Vec<f64>> {
    f64s(&plain(&qkv.to_dtype(DType::F64)?)?)
}

/// (B, L, H, Dh): heads of the transformer, of the VAE, of the tiny test models; ragged lengths
/// around the blocks of 64 queries and 128 keys.
const CASES: [(usize, usize, usize, usize); 10] = [
    (1, 1, 1, 8),
    (2, 7, 3, 24),
    (2, 333, 4, 64),
    (1, 128, 2, 64),
    (1, 129, 1, 64),
    (1, 200, 1, 512),
    (3, 65, 2, 8),
    (1, 64, 1, 1),
    (1, 300, 5, 13),
    (1, 1000, 1, 64),
];

/// An output is a mean of v weighted by exp(score): a score of magnitude S carries S * eps * a few
/// (its own sum of Dh products), and so does the result, relative to |v|.
fn bound(qkv: &Tensor) -> Result<f64> {
    let (_, _, _, _, dh) = qkv.dims5()?;
    let largest = max_abs(&f64s(&qkv.narrow(2, 0, 2)?)?);
    let v = max_abs(&f64s(&qkv.narrow(2, 2, 1)?)?);
    let score = largest * largest * (dh as f64).sqrt();
    Ok(f64::from(f32::EPSILON) * v * (8.0 + score))
}

#[test]
fn f32_agrees_with_f64() -> Result<()> {
    for (b, l, h, dh) in CASES {
        let qkv = normal(&[b, l, 3, h, dh], 7);
        let ours = attention(&qkv)?;
        assert_eq!(ours.dims(), [b, l, h * dh]);
        let error = max_error(&f64s(&ours)?, &exact(&qkv)?);
        assert!(error <= bound(&qkv)?, "{:?}: {error:e} > {:e}", (b, l, h, dh), bound(&qkv)?);
    }
    Ok(())
}

/// Scores in the hundreds: the softmax is nearly one-hot and naive exp would overflow.
#[test]
fn large_scores() -> Result<()> {
    let qkv = (normal(&[1, 150, 3, 2, 64], 8) * 8.0)?;
    let error = max_error(&f64s(&attention(&qkv)?)?, &exact(&qkv)?);
    assert!(error <= bound(&qkv)?, "{error:e} > {:e}", bound(&qkv)?);
    Ok(())
}

#[test]
fn bf16_is_no_worse_than_twice_plain() -> Result<()> {
    for (b, l, h, dh) in CASES {
        let qkv = normal(&[b, l, 3, h, dh], 9).to_dtype(DType::BF16)?;
        let exact = exact(&qkv)?;
        let (ours, plain) = (f64s(&attention(&qkv)?)?, f64s(&plain(&qkv)?)?);
        let (ours, plain) = (max_error(&ours, &exact), max_error(&plain, &exact));
        // Half a bf16 step of the largest result, should plain candle be lucky.
        let atol = max_abs(&exact) / 512.0;
        assert!(ours <= 2.0 * plain + atol, "{:?}: {ours:e} against {plain:e}", (b, l, h, dh));
    }
    Ok(())
}

#[test]
fn bits_do_not_depend_on_batch_or_threads() -> Result<()> {
    let qkv = normal(&[3, 150, 3, 2, 24], 10);
    let all = attention(&qkv)?;
    assert_eq!(f64s(&all.narrow(0, 2, 1)?)?, f64s(&attention(&qkv.narrow(0, 2, 1)?)?)?);
    same_on_any_pool(|| attention(&qkv))
}

/// `[1, L, 3, 1, 8]` of ones with one element replaced.
fn ones_but(seq: usize, (token, part): (usize, usize), value: f32) -> Result<Tensor> {
    let mut data = vec![1f32; seq * 24];
    data[token * 24 + part * 8 + 3] = value;
    Tensor::from_vec(data, (1, seq, 3, 1, 8), &Device::Cpu)
}

#[test]
fn nan_reaches_what_it_must_and_nothing_else() -> Result<()> {
    let seq = 140;
    let nan_of = |part| -> Result<Vec<bool>> {
        Ok(f64s(&attention(&ones_but(seq, (135, part), f32::NAN)?)?)?.iter().map(|v| v.is_nan()).collect())
    };
    let (query, key, value) = (nan_of(0)?, nan_of(1)?, nan_of(2)?);
    for i in 0..seq * 8 {
        assert_eq!(query[i], i / 8 == 135, "a NaN query is its own row's only");
        assert!(key[i], "a NaN key is everyone's");
        assert_eq!(value[i], i % 8 == 3, "a NaN value is everyone's in its channel");
    }
    Ok(())
}

#[test]
fn infinity_behaves_as_in_a_plain_softmax() -> Result<()> {
    // A key of -inf is ignored, even where a whole first block of keys is; one of +inf gives inf - inf.
    let ignored = attention(&ones_but(140, (3, 1), f32::NEG_INFINITY)?)?;
    assert!(f64s(&ignored)?.iter().all(|v| (v - 1.0).abs() < 1e-6));
    let mut data = vec![1f32; 140 * 24];
    (0..128).for_each(|token| data[token * 24 + 8] = f32::NEG_INFINITY);
    let block = Tensor::from_vec(data, (1, 140, 3, 1, 8), &Device::Cpu)?;
    assert!(f64s(&attention(&block)?)?.iter().all(|v| (v - 1.0).abs() < 1e-6));
    assert!(f64s(&attention(&ones_but(140, (3, 1), f32::INFINITY)?)?)?.iter().all(|v| v.is_nan()));
    Ok(())
}

#[test]
fn wrong_shapes_are_refused_with_their_shapes() {
    let error = attention(&normal(&[1, 4, 2, 1, 8], 1)).expect_err("no v").to_string();
    assert!(error.contains("[1, 4, 2, 1, 8]"), "{error}");
    assert!(attention(&normal(&[4, 3, 8], 1)).is_err());
}

/// A causal mask for all heads, and finite numbers for each.
#[test]
fn biases_are_added_to_scores() -> Result<()> {
    let (batch, heads, dh) = (2, 3, 24);
    for l in [1, 77, 300] {
        let qkv = normal(&[batch, l, 3, heads, dh], 7);
        let ahead = |i: usize, j: usize| if j > i { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> = (0..l * l).map(|i| ahead(i / l, i % l)).collect();
        let mask = Tensor::from_vec(mask, (l, l), &Device::Cpu)?;
        for (bias, scale) in [(mask, 0.3f32), (normal(&[heads, l, l], 8), 1.0)] {
            let part =
                |i| qkv.to_dtype(DType::F64)?.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
            let (q, k, v) = (part(0)?, part(1)?, part(2)?);
            let scores =
                (q.matmul(&k.t()?)? * f64::from(scale))?.broadcast_add(&bias.to_dtype(DType::F64)?)?;
            let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
            let weights = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
            let exact = f64s(&weights.matmul(&v)?.transpose(1, 2)?.contiguous()?)?;
            let error = max_error(&f64s(&biased_attention(&qkv, &bias, scale)?)?, &exact);
            // The bias goes in and out of the scale's unit, which rounds twice more.
            assert!(error <= 2.0 * bound(&qkv)?, "{l} {scale}: {error:e} > {:e}", bound(&qkv)?);
            let rounded = biased_attention(&qkv.to_dtype(DType::BF16)?, &bias, scale)?;
            // 8 bits of q, k, v, of the probabilities and of the result.
            let error = max_error(&f64s(&rounded)?, &exact);
            assert!(error <= 0.15, "{l} {scale} in bf16: {error:e}");
        }
    }
    let qkv = normal(&[1, 4, 3, 2, 8], 1);
    for wrong in [normal(&[4, 5], 2), normal(&[3, 4, 4], 2), normal(&[1, 2, 4, 4], 2)] {
        assert!(biased_attention(&qkv, &wrong, 1.0).is_err_and(|e| e.to_string().contains("[H, L, L]")));
    }
    Ok(())
}
