//! LayerNorm and RMSNorm over the last dimension, with weights.

use crate::cpu::element::Element;
use crate::cpu::math::{Moments, sum_sq};
use crate::cpu::view::{Rows, contiguous};
use crate::cpu::{ROWS_TASK_ELEMENTS, by_dtype, vectorized};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `x / sqrt(mean(x^2) + eps) * w` over the last dimension.
///
/// - `x`: `[.., D]` f32|bf16, contiguous, or of rank 2 or 3 with last stride 1
/// - `w`: `[D]` of x's type
///
/// Returns x's shape, contiguous.
///
/// # Errors
/// The shapes do not fit, or types, devices or a layout are others.
pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    if x.rank() == 0 || w.rank() != 1 || x.dims().last() != w.dims().last() {
        bail!("rms_norm: x {:?}, w {:?}: expected [.., D], [D]", x.dims(), w.dims())
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::norm::rms_norm(x, w, eps);
    }
    x.apply_op2_no_bwd(w, &Norm { eps })
}

/// `(x - mean) / sqrt(variance + eps) * w + b` over the last dimension, the variance biased.
///
/// - `x`: `[.., D]` f32|bf16, contiguous, or of rank 2 or 3 with last stride 1
/// - `w`, `b`: `[D]` of x's type
///
/// Returns x's shape, contiguous.
///
/// # Errors
/// The shapes do not fit, or types, devices or a layout are others.
pub fn layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
    if x.rank() == 0 || w.rank() != 1 || x.dims().last() != w.dims().last() || w.dims() != b.dims() {
        bail!("layer_norm: x {:?}, w {:?}, b {:?}: expected [.., D], [D], [D]", x.dims(), w.dims(), b.dims())
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::norm::layer_norm(x, w, b, eps);
    }
    x.apply_op3_no_bwd(w, b, &Norm { eps })
}

/// RMSNorm of two tensors, LayerNorm of three.
struct Norm {
    eps: f64,
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!("rms_norm", x, rms_forward((x, xl), (w, wl), self.eps))
    }
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "layer_norm"
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
        by_dtype!("layer_norm", x, layer_forward((x, xl), (w, wl), (b, bl), self.eps))
    }
}

fn rms_forward<T: Element>(
    (x, xl): (&CpuStorage, &Layout),
    (w, wl): (&CpuStorage, &Layout),
    eps: f64,
) -> Result<(CpuStorage, Shape)> {
    let x = Rows::<T>::new("rms_norm", x, xl)?;
    let mut weight = vec![0f32; x.width];
    T::load(contiguous("rms_norm", w, wl)?, &mut weight);
    let out = each_row(x, |row, out| rms(row, &weight, eps, out));
    Ok((T::to_cpu_storage_owned(out), xl.shape().clone()))
}

fn layer_forward<T: Element>(
    (x, xl): (&CpuStorage, &Layout),
    (w, wl): (&CpuStorage, &Layout),
    (b, bl): (&CpuStorage, &Layout),
    eps: f64,
) -> Result<(CpuStorage, Shape)> {
    let x = Rows::<T>::new("layer_norm", x, xl)?;
    let (mut weight, mut bias) = (vec![0f32; x.width], vec![0f32; x.width]);
    T::load(contiguous("layer_norm", w, wl)?, &mut weight);
    T::load(contiguous("layer_norm", b, bl)?, &mut bias);
    let out = each_row(x, |row, out| layer(row, &weight, &bias, eps, out));
    Ok((T::to_cpu_storage_owned(out), xl.shape().clone()))
}

/// Maps every row through `f` in f32.
fn each_row<T: Element>(x: Rows<'_, T>, f: impl Fn(&[f32], &mut [f32]) + Sync) -> Vec<T> {
    let mut out = T::zeros(x.batch * x.rows * x.width);
    let task_rows = (ROWS_TASK_ELEMENTS / x.width.max(1)).max(1);
    out.par_chunks_mut((task_rows * x.width).max(1)).enumerate().for_each_init(
        || (Vec::new(), Vec::new()),
        |(widened, result), (task, out)| {
            for (i, out) in out.chunks_mut(x.width).enumerate() {
                let row = task * task_rows + i;
                let row = T::as_f32(x.row(row / x.rows, row % x.rows), widened);
                T::write(out, result, |out| f(row, out));
            }
        },
    );
    out
}

vectorized! {
    /// RMSNorm of one row.
    pub(crate) fn rms<'a>(x: &'a [f32], weight: &'a [f32], eps: f64, out: &'a mut [f32]) {
        let inverse = (1.0 / (sum_sq(x, 0.0) / x.len() as f64 + eps).sqrt()) as f32;
        for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
            *out = x * inverse * w;
        }
    }
}

vectorized! {
    fn layer<'a>(x: &'a [f32], weight: &'a [f32], bias: &'a [f32], eps: f64, out: &'a mut [f32]) {
        let mut moments = Moments::default();
        moments.add(x);
        let inverse = (1.0 / (moments.variance() + eps).sqrt()) as f32;
        let mean = moments.mean() as f32;
        for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *out = ((x - mean) * inverse).mul_add(*w, *b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{f64s, max_error, normal, same_on_any_pool};
    use candle_core::{D, DType};

    fn rms_reference(x: &Tensor, w: &Tensor) -> Result<Tensor> {
        let (x, w) = (x.to_dtype(DType::F64)?, w.to_dtype(DType::F64)?);
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?;
        x.broadcast_div(&scale)?.broadcast_mul(&w)
    }

    fn layer_reference(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
        let (x, w, b) = (x.to_dtype(DType::F64)?, w.to_dtype(DType::F64)?, b.to_dtype(DType::F64)?);
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?;
        x.broadcast_div(&scale)?.broadcast_mul(&w)?.broadcast_add(&b)
    }

    /// Text encoders' widths, ragged ones, one element, several ranks.
    const CASES: [&[usize]; 7] =
        [&[77, 768], &[2, 77, 1280], &[1, 333, 4096], &[5, 1], &[3, 7, 24], &[2, 3, 4, 50], &[64]];

    /// Outputs are of order 5 * 3, after three f32 steps: 15 * 3 * eps / 2 and a margin for statistics.
    const BOUND: f64 = 5e-6;

    #[test]
    fn f32_agrees_with_f64() -> Result<()> {
        for dims in CASES {
            let dim = dims[dims.len() - 1];
            let (x, w, b) = (normal(dims, 1), normal(&[dim], 2), normal(&[dim], 3));
            let ours = rms_norm(&x, &w, 1e-6)?;
            assert_eq!(ours.dims(), dims);
            let error = max_error(&f64s(&ours)?, &f64s(&rms_reference(&x, &w)?)?);
            assert!(error <= BOUND, "rms_norm {dims:?}: {error:e}");
            let error =
                max_error(&f64s(&layer_norm(&x, &w, &b, 1e-6)?)?, &f64s(&layer_reference(&x, &w, &b)?)?);
            assert!(error <= BOUND, "layer_norm {dims:?}: {error:e}");
        }
        Ok(())
    }

    /// Rows of T5's magnitude (1e4 with outliers): the bound is relative to the output, which is not.
    #[test]
    fn large_rows() -> Result<()> {
        let x = (normal(&[4, 4096], 1) * 1e4)?.broadcast_add(&(normal(&[4, 1], 5) * 1e5)?)?;
        let (w, b) = (normal(&[4096], 2), normal(&[4096], 3));
        let error = max_error(&f64s(&rms_norm(&x, &w, 1e-6)?)?, &f64s(&rms_reference(&x, &w)?)?);
        assert!(error <= BOUND, "rms_norm: {error:e}");
        // x - mean has lost 1e5 / 1e4 = ten times more digits.
        let error = max_error(&f64s(&layer_norm(&x, &w, &b, 1e-6)?)?, &f64s(&layer_reference(&x, &w, &b)?)?);
        assert!(error <= 10.0 * BOUND, "layer_norm: {error:e}");
        Ok(())
    }

    /// bf16: the exact result rounded once is half a step of the result; ours may add an f32 error.
    #[test]
    fn bf16_rounds_once() -> Result<()> {
        for dims in CASES {
            let dim = dims[dims.len() - 1];
            let bf16 = |t: Tensor| t.to_dtype(DType::BF16);
            let (x, w, b) = (bf16(normal(dims, 1))?, bf16(normal(&[dim], 2))?, bf16(normal(&[dim], 3))?);
            let pairs = [
                (rms_norm(&x, &w, 1e-6)?, rms_reference(&x, &w)?),
                (layer_norm(&x, &w, &b, 1e-6)?, layer_reference(&x, &w, &b)?),
            ];
            for (ours, exact) in pairs {
                for (ours, exact) in f64s(&ours)?.iter().zip(f64s(&exact)?) {
                    assert!(
                        (ours - exact).abs() <= exact.abs() / 256.0 + BOUND,
                        "{dims:?}: {ours} for {exact}"
                    );
                }
            }
        }
        Ok(())
    }

    #[test]
    fn views_threads_and_nan() -> Result<()> {
        let (x, w, b) = (normal(&[2, 400, 200], 1), normal(&[200], 2), normal(&[200], 3));
        let view = x.narrow(1, 13, 301)?;
        let copy = view.contiguous()?;
        assert_eq!(f64s(&rms_norm(&view, &w, 1e-6)?)?, f64s(&rms_norm(&copy, &w, 1e-6)?)?);
        assert_eq!(f64s(&layer_norm(&view, &w, &b, 1e-6)?)?, f64s(&layer_norm(&copy, &w, &b, 1e-6)?)?);
        same_on_any_pool(|| layer_norm(&x, &w, &b, 1e-6))?;
        let mut rows = vec![1f32; 3 * 50];
        rows[70] = f32::NAN;
        let rows = Tensor::from_vec(rows, (3, 50), x.device())?;
        let ones = Tensor::ones(50, DType::F32, x.device())?;
        for y in [rms_norm(&rows, &ones, 1e-6)?, layer_norm(&rows, &ones, &ones, 1e-6)?] {
            assert!(f64s(&y)?.iter().enumerate().all(|(i, v)| v.is_nan() == (i / 50 == 1)));
        }
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_refused_with_their_shapes() {
        let error = rms_norm(&normal(&[3, 8], 1), &normal(&[7], 2), 1e-6).expect_err("8 != 7").to_string();
        assert!(error.contains("[3, 8]") && error.contains("[7]"), "{error}");
        assert!(layer_norm(&normal(&[3, 8], 1), &normal(&[8], 2), &normal(&[7], 2), 1e-6).is_err());
    }
}
