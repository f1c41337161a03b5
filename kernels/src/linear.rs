//! `act(x w^T + b)`: a linear layer whose bias and activation are applied while the tile is in cache.

use crate::cpu::element::Element;
use crate::cpu::matmul::{Packed, Weights, matmul, pack_weights};
use crate::cpu::panel::PANEL;
use crate::cpu::view::{Rows, contiguous};
use crate::cpu::{by_dtype, math, vectorized};
use crate::options::Activation;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail};
use half::bf16;

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
    check(x, w.dims(), b)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::linear::linear(x, w, b, act);
    }
    apply(x, w, b, Linear { act, packed: None })
}

/// Weights in the layout that the products of this processor read.
pub struct PackedWeight {
    /// f32, or u32: pairs of bf16
    values: Tensor,
    shape: [usize; 2],
}

impl PackedWeight {
    /// `w`: `[N, K]` f32|bf16, contiguous. `None` where packing gains nothing: on a GPU, and for bf16 on a processor that
    /// multiplies it in f32, where packed weights would take twice the memory.
    ///
    /// # Errors
    /// The layout is another.
    pub fn new(w: &Tensor) -> Result<Option<Self>> {
        let (outputs, inputs) = w.dims2()?;
        let packed = match &*w.storage_and_layout().0 {
            Storage::Cpu(CpuStorage::F32(_)) => packed::<f32>(w)?,
            Storage::Cpu(CpuStorage::BF16(_)) => packed::<bf16>(w)?,
            _ => None,
        };
        let values = match packed {
            Some(Packed::Panels(values)) => Tensor::new(values, w.device())?,
            Some(Packed::Blocks(values)) => Tensor::new(values, w.device())?,
            None => return Ok(None),
        };
        Ok(Some(Self { values, shape: [outputs, inputs] }))
    }

    /// `[N, K]`
    pub fn dims(&self) -> &[usize] {
        &self.shape
    }
}

fn packed<T: Element>(w: &Tensor) -> Result<Option<Packed>> {
    let (storage, layout) = w.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(pack_weights(contiguous::<T>("linear", storage, layout)?, w.dims2()?)),
        _ => Ok(None),
    }
}

/// [`linear`] with packed weights: the same bits.
///
/// # Errors
/// As there.
pub fn linear_packed(x: &Tensor, w: &PackedWeight, b: Option<&Tensor>, act: Activation) -> Result<Tensor> {
    check(x, &w.shape, b)?;
    apply(x, &w.values, b, Linear { act, packed: Some(w.shape[0]) })
}

fn check(x: &Tensor, w: &[usize], b: Option<&Tensor>) -> Result<()> {
    let dims = x.dims();
    let fits = matches!(dims.len(), 2 | 3) && w.len() == 2 && dims.last() == w.last() && w[1] > 0;
    if !fits || b.is_some_and(|b| b.dims() != &w[..1]) {
        bail!("linear: x {dims:?}, w {w:?}, b {:?}: expected [.., K > 0], [N, K], [N]", b.map(|b| b.dims()))
    }
    Ok(())
}

fn apply(x: &Tensor, w: &Tensor, b: Option<&Tensor>, op: Linear) -> Result<Tensor> {
    match b {
        Some(b) => x.apply_op3_no_bwd(w, b, &op),
        None => x.apply_op2_no_bwd(w, &op),
    }
}

struct Linear {
    act: Activation,
    /// The outputs of packed weights
    packed: Option<usize>,
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
        by_dtype!("linear", x, forward(self, (x, xl), (w, wl), None))
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
        by_dtype!("linear", x, forward(self, (x, xl), (w, wl), Some((b, bl))))
    }
}

fn forward<T: Element>(
    op: &Linear,
    (x, xl): (&CpuStorage, &Layout),
    (w, wl): (&CpuStorage, &Layout),
    b: Option<(&CpuStorage, &Layout)>,
) -> Result<(CpuStorage, Shape)> {
    let x = Rows::<T>::new("linear", x, xl)?;
    let width = op.packed.unwrap_or_else(|| wl.dims()[0]);
    let mut bias = vec![0f32; width.next_multiple_of(PANEL)];
    if let Some((b, bl)) = b {
        T::load(contiguous("linear", b, bl)?, &mut bias[..width]);
    }
    let epilogue = |block: &mut [f32], block_width: usize, column: usize| {
        finish(block, &bias[column..][..block_width], op.act);
    };
    let w = match (op.packed, w) {
        (None, w) => Weights::Rows(contiguous::<T>("linear", w, wl)?),
        (Some(_), CpuStorage::F32(panels)) if T::DTYPE == DType::F32 => Weights::Panels(panels),
        (Some(_), CpuStorage::U32(blocks)) if T::DTYPE == DType::BF16 => Weights::Blocks(blocks),
        _ => bail!("linear: packed weights of another type than x, which is {:?}", T::DTYPE),
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
