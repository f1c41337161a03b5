//! The residual of an adaptive-norm block: `x + gate * y`, the gate per batch element and channel.

use crate::cpu::element::Element;
use crate::cpu::view::Rows;
use crate::cpu::{ROWS_TASK_ELEMENTS, by_dtype, vectorized};
use crate::modulate;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `x + mods[:, gate] * y`.
///
/// - `x`, `y`: `[B, L, D]` f32|bf16, last stride 1 (y may be a narrowed view of a longer buffer)
/// - `mods`: `[B, N, D]` of x's type, last stride 1 (it may be narrowed along N); `gate` indexes its N
///
/// Returns `[B, L, D]`, contiguous.
///
/// # Errors
/// The shapes do not fit, `gate` is not below N, or types, devices or a last stride are others.
pub fn gated_add(x: &Tensor, y: &Tensor, mods: &Tensor, gate: usize) -> Result<Tensor> {
    check(x, y, mods, gate)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::residual::gated_add(x, y, mods, gate);
    }
    x.apply_op3_no_bwd(y, mods, &GatedAdd { gate })
}

/// [`gated_add`], and [`layer_norm_modulate`](crate::layer_norm_modulate) of the sum as it is stored: one pass over
/// memory on a GPU.
///
/// - `x`, `y`, `mods`, `gate` as there; `shift` and `scale` index the N of `mods` too
///
/// Returns the sum and its norm, both `[B, L, D]`, contiguous.
///
/// # Errors
/// The shapes do not fit, a row of `mods` is not below N, or types, devices or a last stride are others.
pub fn gated_add_modulate(
    x: &Tensor,
    y: &Tensor,
    mods: &Tensor,
    gate: usize,
    (shift, scale): (usize, usize),
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        check(x, y, mods, gate)?;
        modulate::check(x, mods, shift, scale)?;
        return crate::cuda::residual::gated_add_modulate(x, y, mods, gate, (shift, scale), eps);
    }
    let sum = gated_add(x, y, mods, gate)?;
    let normed = modulate::layer_norm_modulate(&sum, mods, shift, scale, eps)?;
    Ok((sum, normed))
}

/// [`gated_add_modulate`] with the norm as e4m3 rows, quantised from f32. On GPUs only.
///
/// Returns the sum `[B, L, D]` and its norm: values `[B, L, D]`, scales `[B, L]`.
///
/// # Errors
/// As there, or the tensors are not on a GPU.
#[cfg(feature = "cuda")]
pub fn gated_add_modulate_rowwise(
    x: &Tensor,
    y: &Tensor,
    mods: &Tensor,
    gate: usize,
    (shift, scale): (usize, usize),
    eps: f64,
) -> Result<(Tensor, crate::Rowwise)> {
    check(x, y, mods, gate)?;
    modulate::check(x, mods, shift, scale)?;
    crate::cuda::residual::gated_add_modulate_rowwise(x, y, mods, gate, (shift, scale), eps)
}

fn check(x: &Tensor, y: &Tensor, mods: &Tensor, gate: usize) -> Result<()> {
    let fits = match (x.dims(), mods.dims()) {
        (&[batch, _, dim], &[b, n, d]) => batch == b && dim == d && gate < n && x.dims() == y.dims(),
        _ => false,
    };
    if !fits {
        bail!(
            "gated_add: x {:?}, y {:?}, mods {:?}, gate {gate}: expected [B, L, D] twice, [B, N, D]",
            x.dims(),
            y.dims(),
            mods.dims()
        )
    }
    Ok(())
}

struct GatedAdd {
    gate: usize,
}

impl CustomOp3 for GatedAdd {
    fn name(&self) -> &'static str {
        "gated_add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        y: &CpuStorage,
        yl: &Layout,
        m: &CpuStorage,
        ml: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!("gated_add", x, forward(self.gate, (x, xl), (y, yl), (m, ml)))
    }
}

fn forward<T: Element>(
    gate: usize,
    (x, xl): (&CpuStorage, &Layout),
    (y, yl): (&CpuStorage, &Layout),
    (mods, ml): (&CpuStorage, &Layout),
) -> Result<(CpuStorage, Shape)> {
    let x = Rows::<T>::new("gated_add", x, xl)?;
    let y = Rows::<T>::new("gated_add", y, yl)?;
    let mods = Rows::<T>::new("gated_add", mods, ml)?;
    let dim = x.width;
    let mut out = T::zeros(x.batch * x.rows * dim);
    if out.is_empty() {
        return Ok((T::to_cpu_storage_owned(out), xl.shape().clone()));
    }
    let task_rows = (ROWS_TASK_ELEMENTS / dim).max(1);
    out.par_chunks_mut(x.rows * dim).enumerate().for_each(|(batch, out)| {
        let mut g = vec![0f32; dim];
        T::load(mods.row(batch, gate), &mut g);
        out.par_chunks_mut(task_rows * dim).enumerate().for_each_init(
            || (Vec::new(), Vec::new(), Vec::new()),
            |(x_wide, y_wide, result), (task, out)| {
                for (i, out) in out.chunks_mut(dim).enumerate() {
                    let row = task * task_rows + i;
                    let x = T::as_f32(x.row(batch, row), x_wide);
                    let y = T::as_f32(y.row(batch, row), y_wide);
                    T::write(out, result, |out| add(x, y, &g, out));
                }
            },
        );
    });
    Ok((T::to_cpu_storage_owned(out), xl.shape().clone()))
}

vectorized! {
    fn add<'a>(x: &'a [f32], y: &'a [f32], gate: &'a [f32], out: &'a mut [f32]) {
        for (((out, x), y), gate) in out.iter_mut().zip(x).zip(y).zip(gate) {
            *out = gate.mul_add(*y, *x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{f64s, max_abs, max_error, normal, same_on_any_pool};
    use candle_core::DType;

    /// Plain candle in the type of `x`.
    fn plain(x: &Tensor, y: &Tensor, mods: &Tensor, gate: usize) -> Result<Tensor> {
        x + y.contiguous()?.broadcast_mul(&mods.narrow(1, gate, 1)?)?
    }

    /// (B, L, D, N, gate)
    const CASES: [(usize, usize, usize, usize, usize); 4] =
        [(2, 333, 256, 6, 2), (1, 1, 2432, 6, 5), (3, 7, 24, 9, 8), (2, 300, 50, 1, 0)];

    #[test]
    fn agrees_with_f64_and_beats_plain_bf16() -> Result<()> {
        for (b, l, d, n, gate) in CASES {
            for dtype in [DType::F32, DType::BF16] {
                let of = |dims: &[usize], seed| normal(dims, seed).to_dtype(dtype);
                let (x, joint, mods) = (of(&[b, l, d], 1)?, of(&[b, l + 5, d], 2)?, of(&[b, n, d], 3)?);
                let y = joint.narrow(1, 5, l)?;
                let wide = |t: &Tensor| t.to_dtype(DType::F64);
                let exact = f64s(&plain(&wide(&x)?, &wide(&y)?, &wide(&mods)?, gate)?)?;
                let ours = max_error(&f64s(&gated_add(&x, &y, &mods, gate)?)?, &exact);
                let plain = max_error(&f64s(&plain(&x, &y, &mods, gate)?)?, &exact);
                // One fused step and one rounding: half a step of the largest result in its type.
                let step = if dtype == DType::F32 { f64::from(f32::EPSILON) } else { 1.0 / 128.0 };
                assert!(ours <= max_abs(&exact) * step * 0.51, "{:?} {dtype:?}: {ours:e}", (b, l, d));
                assert!(ours <= 2.0 * plain, "{:?} {dtype:?}: {ours:e} against {plain:e}", (b, l, d));
            }
        }
        Ok(())
    }

    #[test]
    fn threads_and_nan() -> Result<()> {
        let (x, mods) = (normal(&[2, 400, 96], 1), normal(&[2, 3, 96], 2));
        same_on_any_pool(|| gated_add(&x, &x, &mods, 1))?;
        let mut y = f64s(&x)?;
        y[1000] = f64::NAN;
        let y = Tensor::from_vec(y, x.dims(), x.device())?.to_dtype(DType::F32)?;
        let out = f64s(&gated_add(&x, &y, &mods, 1)?)?;
        assert!(out.iter().enumerate().all(|(i, v)| v.is_nan() == (i == 1000)));
        Ok(())
    }

    #[test]
    fn narrowed_mods_and_the_norm_that_follows() -> Result<()> {
        let (x, y) = (normal(&[2, 5, 96], 1), normal(&[2, 5, 96], 2));
        let part = normal(&[2, 9, 96], 3).narrow(1, 1, 4)?;
        assert!(!part.is_contiguous());
        let sum = gated_add(&x, &y, &part, 2)?;
        assert_eq!(f64s(&sum)?, f64s(&gated_add(&x, &y, &part.contiguous()?, 2)?)?);
        let (again, normed) = gated_add_modulate(&x, &y, &part, 2, (0, 3), 1e-6)?;
        assert_eq!(f64s(&again)?, f64s(&sum)?);
        assert_eq!(f64s(&normed)?, f64s(&modulate::layer_norm_modulate(&sum, &part, 0, 3, 1e-6)?)?);
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_refused_with_their_shapes() {
        let x = normal(&[2, 3, 8], 1);
        let cases = [(normal(&[2, 4, 8], 2), normal(&[2, 6, 8], 2)), (x.clone(), normal(&[2, 2, 8], 2))];
        for (y, mods) in cases {
            let error = gated_add(&x, &y, &mods, 2).expect_err("does not fit").to_string();
            assert!(error.contains("[2, 3, 8]") && error.contains("gate 2"), "{error}");
        }
    }
}
