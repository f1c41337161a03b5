//! `act(x w^T + b)`: a linear layer whose bias and activation are applied while the tile is in cache.

use crate::cpu::element::Element;
use crate::cpu::matmul::matmul;
use crate::cpu::panel::PANEL;
use crate::cpu::view::{Rows, contiguous};
use crate::cpu::{by_dtype, math, vectorized};
use crate::options::Activation;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// `act(x w^T + b)`.
///
/// - `x`: `[M, K]` or `[B, M, K]` f32|bf16, last stride 1, leading strides free
/// - `w`: `[N, K]`, contiguous, of x's type; `b`: `[N]`
///
/// Returns x's shape with `N` in place of `K`, contiguous. A row's result does not depend on the others.
///
/// # Errors
/// The shapes do not fit, or types, devices or a layout are others.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Activation) -> Result<Tensor> {
    let (x_dims, w_dims) = (x.dims(), w.dims());
    let fits =
        matches!(x_dims.len(), 2 | 3) && w_dims.len() == 2 && x_dims.last() == w_dims.last() && w_dims[1] > 0;
    let bias_fits = b.is_none_or(|b| b.dims() == &w_dims[..1]);
    if !fits || !bias_fits {
        bail!(
            "linear: x {x_dims:?}, w {w_dims:?}, b {:?}: expected [.., K > 0], [N, K], [N]",
            b.map(|b| b.dims())
        )
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::linear::linear(x, w, b, act);
    }
    let op = Linear { act };
    match b {
        Some(b) => x.apply_op3_no_bwd(w, b, &op),
        None => x.apply_op2_no_bwd(w, &op),
    }
}

struct Linear {
    act: Activation,
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!("linear", x, forward((x, xl), (w, wl), None, self.act))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        by_dtype!("linear", x, forward((x, xl), (w, wl), Some((b, bl)), self.act))
    }
}

fn forward<T: Element>(
    (x, xl): (&CpuStorage, &Layout),
    (w, wl): (&CpuStorage, &Layout),
    b: Option<(&CpuStorage, &Layout)>,
    act: Activation,
) -> Result<(CpuStorage, Shape)> {
    let x = Rows::<T>::new("linear", x, xl)?;
    let w = contiguous::<T>("linear", w, wl)?;
    let width = wl.dims()[0];
    let mut bias = vec![0f32; width.next_multiple_of(PANEL)];
    if let Some((b, bl)) = b {
        T::load(contiguous("linear", b, bl)?, &mut bias[..width]);
    }
    let epilogue = |block: &mut [f32], block_width: usize, column: usize| {
        finish(block, &bias[column..][..block_width], act);
    };
    let out = matmul(x, w, width, &epilogue);
    let mut dims = xl.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = width;
    }
    Ok((T::to_cpu_storage_owned(out), Shape::from(dims)))
}

/// Adds the bias to each row of `acc` `[rows, N]` and applies the activation.
fn finish(acc: &mut [f32], bias: &[f32], act: Activation) {
    add_bias(acc, bias);
    activate(acc, act);
}

/// Applies the activation to each value.
pub(crate) fn activate(acc: &mut [f32], act: Activation) {
    match act {
        Activation::None => (),
        Activation::GeluTanh => gelu_tanh(acc),
        Activation::GeluErf => gelu_erf(acc),
        Activation::QuickGelu => quick_gelu(acc),
        Activation::Silu => silu(acc),
        Activation::Relu => relu(acc),
    }
}

vectorized! {
    fn add_bias<'a>(acc: &'a mut [f32], bias: &'a [f32]) {
        for row in acc.chunks_exact_mut(bias.len()) {
            for (v, b) in row.iter_mut().zip(bias) {
                *v += b;
            }
        }
    }
}

/// One loop for each activation, since a choice inside the loop would keep it from vectorising.
macro_rules! in_place {
    ($($name:ident($x:ident) = $formula:expr;)*) => {
        $(vectorized! {
            fn $name<'a>(acc: &'a mut [f32]) {
                for v in acc {
                    let $x = *v;
                    *v = $formula;
                }
            }
        })*
    };
}

in_place! {
    gelu_tanh(x) = math::gelu_tanh(x);
    gelu_erf(x) = math::gelu_erf(x);
    quick_gelu(x) = math::quick_gelu(x);
    silu(x) = math::silu(x);
    relu(x) = if x < 0.0 { 0.0 } else { x };
}

#[cfg(test)]
mod tests;
