//! Adaptive LayerNorm: normalise a row without affine weights, then scale and shift it per batch element.

use crate::cpu::element::Element;
use crate::cpu::math::Moments;
use crate::cpu::view::Rows;
use crate::cpu::{ROWS_TASK_ELEMENTS, by_dtype, vectorized};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `layer_norm(x) * (1 + mods[:, scale]) + mods[:, shift]`, the norm without weights.
///
/// - `x`: `[B, L, D]` f32|bf16, last stride 1
/// - `mods`: `[B, N, D]` of x's type, last stride 1 (it may be narrowed along N); `shift` and `scale` index its N
///
/// Returns `[B, L, D]`, contiguous.
///
/// # Errors
/// The shapes do not fit, `shift` or `scale` is not below N, or types, devices or a last stride are others.
pub fn layer_norm_modulate(
    x: &Tensor,
    mods: &Tensor,
    shift: usize,
    scale: usize,
    eps: f64,
) -> Result<Tensor> {
    check(x, mods, shift, scale)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::modulate::layer_norm_modulate(x, mods, shift, scale, eps);
    }
    x.apply_op2_no_bwd(mods, &LayerNormModulate { shift, scale, eps })
}

/// [`layer_norm_modulate`] as e4m3 rows, quantised from f32. On GPUs only.
///
/// Returns values `[B, L, D]` with scales `[B, L]`.
///
/// # Errors
/// As there, or the tensors are not on a GPU.
#[cfg(feature = "cuda")]
pub fn layer_norm_modulate_rowwise(
    x: &Tensor,
    mods: &Tensor,
    shift: usize,
    scale: usize,
    eps: f64,
) -> Result<crate::Rowwise> {
    check(x, mods, shift, scale)?;
    crate::cuda::modulate::layer_norm_modulate_rowwise(x, mods, shift, scale, eps)
}

pub(crate) fn check(x: &Tensor, mods: &Tensor, shift: usize, scale: usize) -> Result<()> {
    let fits = match (x.dims(), mods.dims()) {
        (&[batch, _, dim], &[b, n, d]) => batch == b && dim == d && shift < n && scale < n,
        _ => false,
    };
    if !fits {
        bail!(
            "layer_norm_modulate: x {:?}, mods {:?}, shift {shift}, scale {scale}: expected [B, L, D], [B, N, D]",
            x.dims(),
            mods.dims()
        )
    }
    Ok(())
}

struct LayerNormModulate {
    shift: usize,
    scale: usize,
    eps: f64,
}

impl CustomOp2 for LayerNormModulate {
    fn name(&self) -> &'static str {
        "layer_norm_modulate"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        m: &CpuStorage,
        ml: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!("layer_norm_modulate", x, forward(self, (x, xl), (m, ml)))
    }
}

fn forward<T: Element>(
    op: &LayerNormModulate,
    (x, xl): (&CpuStorage, &Layout),
    (mods, ml): (&CpuStorage, &Layout),
) -> Result<(CpuStorage, Shape)> {
    let x = Rows::<T>::new("layer_norm_modulate", x, xl)?;
    let mods = Rows::<T>::new("layer_norm_modulate", mods, ml)?;
    let dim = x.width;
    let mut out = T::zeros(x.batch * x.rows * dim);
    if out.is_empty() {
        return Ok((T::to_cpu_storage_owned(out), xl.shape().clone()));
    }
    let task_rows = (ROWS_TASK_ELEMENTS / dim).max(1);
    out.par_chunks_mut(x.rows * dim).enumerate().for_each(|(batch, out)| {
        let modulation = |index: usize| {
            let mut row = vec![0f32; dim];
            T::load(mods.row(batch, index), &mut row);
            row
        };
        let (shift, scale) = (modulation(op.shift), modulation(op.scale));
        out.par_chunks_mut(task_rows * dim).enumerate().for_each_init(
            || (Vec::new(), Vec::new()),
            |(widened, result), (task, out)| {
                for (i, out) in out.chunks_mut(dim).enumerate() {
                    let row = T::as_f32(x.row(batch, task * task_rows + i), widened);
                    T::write(out, result, |out| modulate(row, &shift, &scale, op.eps, out));
                }
            },
        );
    });
    Ok((T::to_cpu_storage_owned(out), xl.shape().clone()))
}

vectorized! {
    fn modulate<'a>(x: &'a [f32], shift: &'a [f32], scale: &'a [f32], eps: f64, out: &'a mut [f32]) {
        let mut moments = Moments::default();
        moments.add(x);
        let inverse = (1.0 / (moments.variance() + eps).sqrt()) as f32;
        let mean = moments.mean() as f32;
        for (((out, x), shift), scale) in out.iter_mut().zip(x).zip(shift).zip(scale) {
            *out = ((x - mean) * inverse).mul_add(1.0 + scale, *shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{f64s, max_abs, max_error, normal, same_on_any_pool};
    use candle_core::{D, DType};

    /// Plain candle in the type of `x`.
    fn plain(x: &Tensor, mods: &Tensor, shift: usize, scale: usize) -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let x = x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?)?;
        let scale = (mods.narrow(1, scale, 1)? + 1.0)?;
        x.broadcast_mul(&scale)?.broadcast_add(&mods.narrow(1, shift, 1)?)
    }

    fn exact(x: &Tensor, mods: &Tensor, shift: usize, scale: usize) -> Result<Vec<f64>> {
        f64s(&plain(&x.to_dtype(DType::F64)?.contiguous()?, &mods.to_dtype(DType::F64)?, shift, scale)?)
    }

    /// (B, L, D, N, shift, scale): six and nine modulations as the models have, ragged widths.
    const CASES: [(usize, usize, usize, usize, usize, usize); 5] = [
        (2, 333, 256, 6, 0, 1),
        (1, 1, 2432, 6, 3, 4),
        (3, 7, 24, 9, 6, 7),
        (2, 100, 50, 2, 1, 0),
        (1, 5, 1, 2, 0, 1),
    ];

    /// Outputs are of order 5 * 5 after four f32 steps: 25 * 4 * eps / 2, and a margin for statistics.
    const BOUND: f64 = 1e-5;

    #[test]
    fn f32_agrees_with_f64() -> Result<()> {
        for (b, l, d, n, shift, scale) in CASES {
            let (x, mods) = (normal(&[b, l, d], 1), normal(&[b, n, d], 2));
            let ours = layer_norm_modulate(&x, &mods, shift, scale, 1e-6)?;
            assert_eq!(ours.dims(), [b, l, d]);
            let error = max_error(&f64s(&ours)?, &exact(&x, &mods, shift, scale)?);
            assert!(error <= BOUND, "{:?}: {error:e}", (b, l, d));
        }
        Ok(())
    }

    #[test]
    fn bf16_is_no_worse_than_twice_plain() -> Result<()> {
        for (b, l, d, n, shift, scale) in CASES {
            let x = (normal(&[b, l, d], 1) * 100.0)?.to_dtype(DType::BF16)?;
            let mods = normal(&[b, n, d], 2).to_dtype(DType::BF16)?;
            let exact = exact(&x, &mods, shift, scale)?;
            let ours = max_error(&f64s(&layer_norm_modulate(&x, &mods, shift, scale, 1e-6)?)?, &exact);
            let plain = max_error(&f64s(&plain(&x, &mods, shift, scale)?)?, &exact);
            // Half a bf16 step of the largest result, should plain candle be lucky.
            let atol = max_abs(&exact) / 512.0;
            assert!(ours <= 2.0 * plain && ours <= 2.0 * atol, "{:?}: {ours:e} against {plain:e}", (b, l, d));
        }
        Ok(())
    }

    #[test]
    fn views_batch_threads_and_nan() -> Result<()> {
        let (x, mods) = (normal(&[2, 500, 96], 1), normal(&[2, 6, 96], 2));
        let run = |x: &Tensor, mods: &Tensor| layer_norm_modulate(x, mods, 0, 1, 1e-6);
        let view = x.narrow(1, 0, 333)?;
        assert_eq!(f64s(&run(&view, &mods)?)?, f64s(&run(&view.contiguous()?, &mods)?)?);
        let part = mods.narrow(1, 2, 3)?;
        assert!(!part.is_contiguous());
        assert_eq!(f64s(&run(&x, &part)?)?, f64s(&run(&x, &part.contiguous()?)?)?);
        let alone = run(&x.narrow(0, 1, 1)?, &mods.narrow(0, 1, 1)?)?;
        assert_eq!(f64s(&run(&x, &mods)?.narrow(0, 1, 1)?)?, f64s(&alone)?);
        same_on_any_pool(|| run(&x, &mods))?;
        let mut rows = f64s(&x.narrow(1, 0, 3)?)?;
        rows[96 + 5] = f64::NAN;
        let rows = Tensor::from_vec(rows, (2, 3, 96), x.device())?.to_dtype(DType::F32)?;
        let y = f64s(&run(&rows, &mods)?)?;
        assert!(y.iter().enumerate().all(|(i, v)| v.is_nan() == (i / 96 == 1)));
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_refused_with_their_shapes() {
        let x = normal(&[2, 3, 8], 1);
        for mods in [normal(&[1, 6, 8], 2), normal(&[2, 6, 7], 2), normal(&[2, 1, 8], 2)] {
            let error = layer_norm_modulate(&x, &mods, 0, 1, 1e-6).expect_err("does not fit").to_string();
            assert!(error.contains("[2, 3, 8]") && error.contains("scale 1"), "{error}");
        }
    }
}
