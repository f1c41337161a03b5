//! `act(a + b)`: two parts of a linear layer that are computed apart, summed before the activation.

use crate::cpu::element::Element;
use crate::cpu::view::contiguous;
use crate::cpu::{ROWS_TASK_ELEMENTS, by_dtype, vectorized};
use crate::linear::activate;
use crate::options::Activation;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `act(a + b)`.
///
/// - `a`, `b`: `[..]` f32|bf16 of one shape and type, contiguous
///
/// Returns the same shape, contiguous. On the CPU the sum is rounded once, after the activation; on a GPU also before it.
///
/// # Errors
/// Shapes, types, devices or layouts differ.
pub fn add_activate(a: &Tensor, b: &Tensor, act: Activation) -> Result<Tensor> {
    if a.dims() != b.dims() {
        bail!("add_activate: a {:?}, b {:?}: expected one shape", a.dims(), b.dims())
    }
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        let sum = crate::cuda::elementwise::add(a, b)?;
        crate::cuda::elementwise::activate(&sum, act)?;
        return Ok(sum);
    }
    a.apply_op2_no_bwd(b, &AddActivate { act })
}

struct AddActivate {
    act: Activation,
}

impl CustomOp2 for AddActivate {
    fn name(&self) -> &'static str {
        "add_activate"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!("add_activate", a, forward((a, al), (b, bl), self.act))
    }
}

fn forward<T: Element>(
    (a, al): (&CpuStorage, &Layout),
    (b, bl): (&CpuStorage, &Layout),
    act: Activation,
) -> Result<(CpuStorage, Shape)> {
    let (a, b) = (contiguous::<T>("add_activate", a, al)?, contiguous::<T>("add_activate", b, bl)?);
    let mut out = T::zeros(a.len());
    let pieces = out.par_chunks_mut(ROWS_TASK_ELEMENTS).zip(a.par_chunks(ROWS_TASK_ELEMENTS));
    pieces.zip(b.par_chunks(ROWS_TASK_ELEMENTS)).for_each_init(
        || (Vec::new(), Vec::new(), Vec::new()),
        |(a_wide, b_wide, result), ((out, a), b)| {
            let (a, b) = (T::as_f32(a, a_wide), T::as_f32(b, b_wide));
            T::write(out, result, |out| {
                add(a, b, out);
                activate(out, act);
            });
        },
    );
    Ok((T::to_cpu_storage_owned(out), al.shape().clone()))
}

vectorized! {
    fn add<'a>(a: &'a [f32], b: &'a [f32], out: &'a mut [f32]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = *a + *b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear;
    use crate::testing::{f64s, max_abs, max_error, normal, same_on_any_pool};
    use candle_core::{DType, Device};

    const ACTS: [Activation; 3] = [Activation::None, Activation::GeluTanh, Activation::QuickGelu];

    /// A product with the identity is exact, so the linear layer's own bias and activation are the reference.
    #[test]
    fn is_the_activation_of_the_sum() -> Result<()> {
        let (a, b) = (normal(&[3, 70, 50], 1), normal(&[1, 50], 2));
        let identity = Tensor::eye(50, DType::F32, &Device::Cpu)?;
        let rows = b.broadcast_as((3, 70, 50))?.contiguous()?;
        for act in ACTS {
            let expected = linear(&a, &identity, Some(&b.flatten_all()?), act)?;
            assert_eq!(f64s(&add_activate(&a, &rows, act)?)?, f64s(&expected)?, "{act:?}");
        }
        Ok(())
    }

    #[test]
    fn bf16_is_rounded_once() -> Result<()> {
        let of = |seed| normal(&[40, 1000], seed).to_dtype(DType::BF16);
        let (a, b) = (of(1)?, of(2)?);
        for act in ACTS {
            let wide = |t: &Tensor| t.to_dtype(DType::F32);
            let exact = f64s(&add_activate(&wide(&a)?, &wide(&b)?, act)?)?;
            let ours = add_activate(&a, &b, act)?;
            assert_eq!(ours.dtype(), DType::BF16);
            let error = max_error(&f64s(&ours)?, &exact);
            assert!(error <= max_abs(&exact) / 256.0, "{act:?}: {error:e}");
        }
        same_on_any_pool(|| add_activate(&a, &b, Activation::GeluTanh))
    }

    #[test]
    fn other_shapes_and_layouts_are_refused() -> Result<()> {
        let a = normal(&[4, 8], 1);
        let error = add_activate(&a, &normal(&[8, 4], 2), Activation::None).expect_err("shapes").to_string();
        assert!(error.contains("[4, 8]") && error.contains("[8, 4]"), "{error}");
        assert!(add_activate(&a, &normal(&[8, 4], 2).t()?, Activation::None).is_err());
        Ok(())
    }
}
