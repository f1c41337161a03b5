//! GroupNorm over channel groups of an image, with weights and an optional SiLU.

use crate::cpu::element::Element;
use crate::cpu::math::Moments;
use crate::cpu::view::contiguous;
use crate::cpu::{by_dtype, math, vectorized};
use crate::options::Activation;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `act((x - mean) / sqrt(variance + eps) * w + b)`, mean and variance over each group of channels.
///
/// - `x`: `[B, C, H, W]` f32|bf16, contiguous; on a GPU channels-last, as the result is (any other is copied)
/// - `w`, `b`: `[C]` of x's type
/// - `groups` divides C; `act` is [`Activation::None`] or [`Activation::Silu`]
///
/// Returns `[B, C, H, W]` of x's type.
///
/// Memory is read twice. Sums are folded into f64, so groups of millions of elements keep 1e-6.
///
/// # Errors
/// The shapes do not fit, `groups` does not divide C, the activation is another, or a type or layout is.
pub fn group_norm(
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    let fits = match (x.dims(), w.dims(), b.dims()) {
        (&[_, channels, _, _], &[w], &[b]) => {
            groups > 0 && channels % groups == 0 && w == channels && b == channels
        }
        _ => false,
    };
    if !fits {
        bail!(
            "group_norm: x {:?}, w {:?}, b {:?}, groups {groups}: expected [B, C, H, W], [C], [C]",
            x.dims(),
            w.dims(),
            b.dims()
        )
    }
    let silu = match act {
        Activation::None => false,
        Activation::Silu => true,
        other => bail!("group_norm: activation {other:?} is not fused, expected None or Silu"),
    };
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::group_norm::group_norm(x, w, b, groups, eps, act);
    }
    x.apply_op3_no_bwd(w, b, &GroupNorm { groups, eps, silu })
}

struct GroupNorm {
    groups: usize,
    eps: f64,
    silu: bool,
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!("group_norm", x, forward(self, (x, xl), (w, wl), (b, bl)))
    }
}

/// Elements whose moments are taken at once; they are read twice, from the first-level cache.
const BLOCK: usize = 4096;

fn forward<T: Element>(
    op: &GroupNorm,
    (x, xl): (&CpuStorage, &Layout),
    (w, wl): (&CpuStorage, &Layout),
    (b, bl): (&CpuStorage, &Layout),
) -> Result<(CpuStorage, Shape)> {
    let x = contiguous::<T>("group_norm", x, xl)?;
    let w = contiguous::<T>("group_norm", w, wl)?;
    let b = contiguous::<T>("group_norm", b, bl)?;
    let mut out = T::zeros(x.len());
    let (channels, area) = (xl.dims()[1] / op.groups, xl.dims()[2] * xl.dims()[3]);
    if !out.is_empty() {
        out.par_chunks_mut(channels * area).zip(x.par_chunks(channels * area)).enumerate().for_each(
            |(group, (out, x))| {
                let first = group % op.groups * channels;
                one_group(op, x, (&w[first..], &b[first..]), area, out);
            },
        );
    }
    Ok((T::to_cpu_storage_owned(out), xl.shape().clone()))
}

fn one_group<T: Element>(op: &GroupNorm, x: &[T], (w, b): (&[T], &[T]), area: usize, out: &mut [T]) {
    let mut widened = Vec::new();
    let mut moments = Moments::default();
    for block in x.chunks(BLOCK) {
        let block = T::as_f32(block, &mut widened);
        add_moments(&mut moments, block);
    }
    let inverse = 1.0 / (moments.variance() + op.eps).sqrt();
    let mut result = Vec::new();
    let map = if op.silu { apply_silu } else { apply };
    for (channel, (x, out)) in x.chunks(area).zip(out.chunks_mut(area)).enumerate() {
        // x - center is exact near the mean; what the f32 center lost of the mean goes into the shift.
        let center = moments.mean() as f32;
        let scale = w[channel].to_f64() * inverse;
        let shift = b[channel].to_f64() - (moments.mean() - f64::from(center)) * scale;
        let affine = Affine { center, scale: scale as f32, shift: shift as f32 };
        for (x, out) in x.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            let x = T::as_f32(x, &mut widened);
            T::write(out, &mut result, |out| map(&affine, x, out));
        }
    }
}

/// `(x - center) * scale + shift`
struct Affine {
    center: f32,
    scale: f32,
    shift: f32,
}

impl Affine {
    #[inline(always)]
    fn at(&self, x: f32) -> f32 {
        (x - self.center).mul_add(self.scale, self.shift)
    }
}

vectorized! {
    fn add_moments<'a>(moments: &'a mut Moments, x: &'a [f32]) {
        moments.add(x);
    }
}

vectorized! {
    fn apply<'a>(affine: &'a Affine, x: &'a [f32], out: &'a mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = affine.at(*x);
        }
    }
}

vectorized! {
    fn apply_silu<'a>(affine: &'a Affine, x: &'a [f32], out: &'a mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = math::silu(affine.at(*x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{f64s, max_error, normal, same_on_any_pool};
    use candle_core::{DType, Device};

    /// The definition, in f64.
    fn reference(x: &Tensor, w: &Tensor, b: &Tensor, groups: usize, silu: bool) -> Result<Vec<f64>> {
        let (_, channels, height, width) = x.dims4()?;
        let (x, w, b) = (f64s(x)?, f64s(w)?, f64s(b)?);
        let (per_group, area) = (channels / groups, height * width);
        let mut out = Vec::new();
        for (group, x) in x.chunks(per_group * area).enumerate() {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
            for (i, v) in x.iter().enumerate() {
                let channel = group % groups * per_group + i / area;
                let y = (v - mean) / (variance + 1e-6).sqrt() * w[channel] + b[channel];
                out.push(if silu { y / (1.0 + (-y).exp()) } else { y });
            }
        }
        Ok(out)
    }

    /// (x, groups): the VAE's layers cut down, ragged areas around the block of 4096.
    const CASES: [([usize; 4], usize); 6] = [
        ([1, 8, 16, 16], 4),
        ([2, 32, 7, 13], 32),
        ([1, 6, 65, 130], 2),
        ([2, 4, 1, 1], 2),
        ([1, 64, 64, 64], 32),
        ([3, 12, 333, 1], 3),
    ];

    /// Outputs are of order 5 * 3: 1e-6 of that for the statistics and as much for four f32 steps.
    const BOUND: f64 = 3e-5;

    #[test]
    fn f32_agrees_with_the_definition() -> Result<()> {
        for (dims, groups) in CASES {
            for (act, silu) in [(Activation::None, false), (Activation::Silu, true)] {
                let (x, w, b) = (normal(&dims, 1), normal(&[dims[1]], 2), normal(&[dims[1]], 3));
                let ours = group_norm(&x, &w, &b, groups, 1e-6, act)?;
                let error = max_error(&f64s(&ours)?, &reference(&x, &w, &b, groups, silu)?);
                assert!(error <= BOUND / 3.0, "{dims:?} {groups} {act:?}: {error:e}");
            }
        }
        Ok(())
    }

    /// Mean 1000, deviation 1, a million elements a group: x itself has lost 3e-5 of a deviation, and
    /// so has the f32 center; a sum of squares in f32 would be off by whole deviations.
    #[test]
    fn a_large_group_far_from_zero() -> Result<()> {
        let x = (normal(&[1, 2, 1000, 1000], 4) + 1000.0)?;
        let (w, b) = (normal(&[2], 2), normal(&[2], 3));
        let ours = group_norm(&x, &w, &b, 1, 1e-6, Activation::None)?;
        let error = max_error(&f64s(&ours)?, &reference(&x, &w, &b, 1, false)?);
        assert!(error <= BOUND, "{error:e}");
        Ok(())
    }

    /// bf16: the exact result rounded once is half a step of the result; ours may add an f32 error.
    #[test]
    fn bf16_rounds_once() -> Result<()> {
        for (dims, groups) in CASES {
            let bf16 = |t: Tensor| t.to_dtype(DType::BF16);
            let (x, w, b) =
                (bf16(normal(&dims, 1))?, bf16(normal(&[dims[1]], 2))?, bf16(normal(&[dims[1]], 3))?);
            let exact = reference(&x, &w, &b, groups, true)?;
            let ours = f64s(&group_norm(&x, &w, &b, groups, 1e-6, Activation::Silu)?)?;
            for (ours, exact) in ours.iter().zip(&exact) {
                assert!((ours - exact).abs() <= exact.abs() / 256.0 + BOUND, "{dims:?}: {ours} for {exact}");
            }
        }
        Ok(())
    }

    #[test]
    fn nan_stays_in_its_group() -> Result<()> {
        let mut data: Vec<f32> = (0..4 * 5000).map(|i| i as f32).collect();
        data[3 * 5000 - 1] = f32::NAN;
        let x = Tensor::from_vec(data, (1, 4, 50, 100), &Device::Cpu)?;
        let (w, b) = (normal(&[4], 2), normal(&[4], 3));
        let y = f64s(&group_norm(&x, &w, &b, 2, 1e-6, Activation::Silu)?)?;
        assert!(y.iter().enumerate().all(|(i, v)| v.is_nan() == (i >= 2 * 5000)));
        Ok(())
    }

    #[test]
    fn bits_do_not_depend_on_batch_or_threads() -> Result<()> {
        let (x, w, b) = (normal(&[2, 6, 50, 90], 1), normal(&[6], 2), normal(&[6], 3));
        let norm = |x: &Tensor| group_norm(x, &w, &b, 3, 1e-6, Activation::Silu);
        assert_eq!(f64s(&norm(&x)?.narrow(0, 1, 1)?)?, f64s(&norm(&x.narrow(0, 1, 1)?)?)?);
        same_on_any_pool(|| norm(&x))
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, w) = (normal(&[1, 6, 2, 2], 1), normal(&[6], 2));
        let error = group_norm(&x, &w, &w, 4, 1e-6, Activation::None).expect_err("6 / 4").to_string();
        assert!(error.contains("[1, 6, 2, 2]") && error.contains("groups 4"), "{error}");
        assert!(group_norm(&x, &w, &w, 3, 1e-6, Activation::Relu).is_err());
    }
}
