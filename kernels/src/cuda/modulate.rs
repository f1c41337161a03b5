//! Launches `cuda/modulate.cu`: adaptive LayerNorm, its result as stored or as e4m3 rows.

use super::arguments::{LayerNormModulate, launch};
use super::operand::{Input, Output, gpu};
use super::quantize::{NormOutput, Rowwise, RowwiseOutput};
use super::rows::{RowLaunch, row_of_each, same_device};
use candle_core::{Result, Tensor};

const OP: &str = "layer_norm_modulate";

/// See [`crate::layer_norm_modulate()`], which has checked the shapes.
///
/// # Errors
/// Types or devices differ, or a row is not contiguous.
pub(crate) fn layer_norm_modulate(
    x: &Tensor,
    mods: &Tensor,
    shift: usize,
    scale: usize,
    eps: f64,
) -> Result<Tensor> {
    norm::<Output>(x, mods, (shift, scale), eps)
}

/// [`layer_norm_modulate`] as e4m3 rows, quantised from f32.
///
/// # Errors
/// Types or devices differ, or a row is not contiguous.
pub(crate) fn layer_norm_modulate_rowwise(
    x: &Tensor,
    mods: &Tensor,
    shift: usize,
    scale: usize,
    eps: f64,
) -> Result<Rowwise> {
    norm::<RowwiseOutput>(x, mods, (shift, scale), eps)
}

#[expect(unsafe_code, reason = "a kernel launch")]
fn norm<O: NormOutput>(
    x: &Tensor,
    mods: &Tensor,
    (shift, scale): (usize, usize),
    eps: f64,
) -> Result<O::Tensors> {
    same_device(OP, x, &[mods])?;
    let (gpu, dtype) = (gpu(OP, x)?, x.dtype());
    let kernel = gpu.kernel(&format!("{OP}{}", O::SUFFIX), dtype)?;
    let (x_in, mods_in) = (Input::new(OP, x), Input::typed(OP, mods, dtype)?);
    let (rows, mods) = (x_in.rows()?, mods_in.rows()?);
    let (shift, scale) = (row_of_each(&mods, shift, dtype), row_of_each(&mods, scale, dtype));
    let RowLaunch { sizes, config } = RowLaunch::new(OP, dtype, &rows, &[&shift, &scale])?;
    let out = O::of(&gpu, x)?;
    let arguments = LayerNormModulate {
        to: out.to(),
        x: rows.pointer.into(),
        shift: shift.pointer.into(),
        scale: scale.pointer.into(),
        x_strides: rows.strides(),
        mods_stride: mods.batch_stride,
        sizes,
        eps: eps as f32,
    };
    // SAFETY: x has `total` rows, mods a row for each batch element at both addresses, and out an element for each of
    // x's (and a scale for each row), where the kernel of its name writes.
    unsafe { launch(gpu.stream(), &kernel, config, &arguments)? };
    Ok(out.tensors())
}
