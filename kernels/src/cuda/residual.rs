//! Launches `cuda/residual.cu`: gated residuals, alone or with the adaptive LayerNorm that follows.

use super::arguments::{GatedAdd, GatedAddModulate, RowSizes, launch};
use super::operand::{Input, Output, Rows, gpu};
use super::quantize::{NormOutput, Rowwise, RowwiseOutput};
use super::rows::{RowLaunch, row_of_each, same_device};
use candle_core::{Result, Tensor};

const OP: &str = "gated_add";

/// The rows that a residual reads.
struct Operands {
    x: Rows,
    y: Rows,
    gate: Rows,
}

impl Operands {
    fn new([x, y, mods]: &[Input<'_>; 3], gate: usize) -> Result<Self> {
        Ok(Self { x: x.rows()?, y: y.rows()?, gate: row_of_each(&mods.rows()?, gate, mods.dtype) })
    }

    fn add_to(&self, sum: &Output, sizes: RowSizes) -> GatedAdd {
        GatedAdd {
            sum: sum.pointer.into(),
            x: self.x.pointer.into(),
            y: self.y.pointer.into(),
            gate: self.gate.pointer.into(),
            x_strides: self.x.strides(),
            y_strides: self.y.strides(),
            mods_stride: self.gate.batch_stride,
            sizes,
        }
    }
}

/// See [`crate::gated_add()`], which has checked the shapes.
///
/// # Errors
/// Types or devices differ, or a row is not contiguous.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(crate) fn gated_add(x: &Tensor, y: &Tensor, mods: &Tensor, gate: usize) -> Result<Tensor> {
    same_device(OP, x, &[y, mods])?;
    let (gpu, dtype) = (gpu(OP, x)?, x.dtype());
    let kernel = gpu.kernel("gated_add", dtype)?;
    let inputs = [Input::new(OP, x), Input::typed(OP, y, dtype)?, Input::typed(OP, mods, dtype)?];
    let of = Operands::new(&inputs, gate)?;
    let RowLaunch { sizes, config } = RowLaunch::new(OP, dtype, &of.x, &[&of.y, &of.gate])?;
    let sum = Output::new(&gpu, dtype, x.shape())?;
    // SAFETY: x and y have `total` rows, mods a row for each batch element at the gate's address, and sum is contiguous
    // with x's shape.
    unsafe { launch(gpu.stream(), &kernel, config, &of.add_to(&sum, sizes))? };
    Ok(sum.tensor())
}

/// [`crate::gated_add_modulate()`] in one launch: the sum, and its adaptive LayerNorm.
///
/// # Errors
/// Types or devices differ, or a row is not contiguous.
pub(crate) fn gated_add_modulate(
    x: &Tensor,
    y: &Tensor,
    mods: &Tensor,
    gate: usize,
    norm: (usize, usize),
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    sum_and_norm::<Output>([x, y, mods], gate, norm, eps)
}

/// [`gated_add_modulate`] with the norm as e4m3 rows, quantised from f32.
///
/// # Errors
/// Types or devices differ, or a row is not contiguous.
pub(crate) fn gated_add_modulate_rowwise(
    x: &Tensor,
    y: &Tensor,
    mods: &Tensor,
    gate: usize,
    norm: (usize, usize),
    eps: f64,
) -> Result<(Tensor, Rowwise)> {
    sum_and_norm::<RowwiseOutput>([x, y, mods], gate, norm, eps)
}

#[expect(unsafe_code, reason = "a kernel launch")]
fn sum_and_norm<O: NormOutput>(
    [x, y, mods]: [&Tensor; 3],
    gate: usize,
    (shift, scale): (usize, usize),
    eps: f64,
) -> Result<(Tensor, O::Tensors)> {
    same_device(OP, x, &[y, mods])?;
    let (gpu, dtype) = (gpu(OP, x)?, x.dtype());
    let kernel = gpu.kernel(&format!("gated_add_modulate{}", O::SUFFIX), dtype)?;
    let inputs = [Input::new(OP, x), Input::typed(OP, y, dtype)?, Input::typed(OP, mods, dtype)?];
    let (of, mods) = (Operands::new(&inputs, gate)?, inputs[2].rows()?);
    let (shift, scale) = (row_of_each(&mods, shift, dtype), row_of_each(&mods, scale, dtype));
    let RowLaunch { sizes, config } = RowLaunch::new(OP, dtype, &of.x, &[&of.y, &of.gate, &shift, &scale])?;
    let (sum, out) = (Output::new(&gpu, dtype, x.shape())?, O::of(&gpu, x)?);
    let arguments = GatedAddModulate {
        add: of.add_to(&sum, sizes),
        to: out.to(),
        shift: shift.pointer.into(),
        scale: scale.pointer.into(),
        eps: eps as f32,
    };
    // SAFETY: as for the sum; mods has a row for each batch element at all three addresses, and out an element for each
    // of x's (and a scale for each row), where the kernel of its name writes.
    unsafe { launch(gpu.stream(), &kernel, config, &arguments)? };
    Ok((sum.tensor(), out.tensors()))
}
