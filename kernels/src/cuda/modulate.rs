//! Launches `cuda/modulate.cu`: adaptive LayerNorm, its result as stored or as e4m3 rows.

use super::operand::{Input, Output, gpu};
use super::quantize::{NormOutput, Rowwise, RowwiseOutput};
use super::rows::{RowLaunch, row_of_each, same_device};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
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
    launch::<Output>(x, mods, (shift, scale), eps)
}

/// [`layer_norm_modulate`] as e4m3 rows, quantised from f32.
///
/// # Errors
/// As above.
pub(crate) fn layer_norm_modulate_rowwise(
    x: &Tensor,
    mods: &Tensor,
    shift: usize,
    scale: usize,
    eps: f64,
) -> Result<Rowwise> {
    launch::<RowwiseOutput>(x, mods, (shift, scale), eps)
}

#[expect(unsafe_code, reason = "a kernel launch")]
fn launch<O: NormOutput>(
    x: &Tensor,
    mods: &Tensor,
    (shift, scale): (usize, usize),
    eps: f64,
) -> Result<O::Tensors> {
    same_device(OP, x, &[mods])?;
    let (gpu, dtype, eps) = (gpu(OP, x)?, x.dtype(), eps as f32);
    let kernel = gpu.kernel(&format!("{OP}{}", O::SUFFIX), dtype)?;
    let (x_in, mods_in) = (Input::new(OP, x), Input::typed(OP, mods, dtype)?);
    let (rows, mods) = (x_in.rows()?, mods_in.rows()?);
    let (shift, scale) = (row_of_each(&mods, shift, dtype), row_of_each(&mods, scale, dtype));
    let sizes = RowLaunch::new(OP, dtype, &rows, &[&shift, &scale])?;
    let out = O::of(&gpu, x)?;
    let mut launch = gpu.stream().launch_builder(&kernel);
    out.push(&mut launch);
    launch.arg(&rows.pointer).arg(&shift.pointer).arg(&scale.pointer);
    launch.arg(&rows.batch_stride).arg(&rows.row_stride).arg(&mods.batch_stride);
    launch.arg(&sizes.total).arg(&sizes.rows).arg(&sizes.width).arg(&sizes.warps).arg(&sizes.fast).arg(&eps);
    // SAFETY: (T* or e4m3*, f32*; const T* x 3, i64 x 3, u32 x 5, f32); x has `total` rows, mods a row for each batch
    // element at both addresses, and out an element for each of x's (and a scale for each row).
    unsafe { launch.launch(sizes.config) }.w()?;
    Ok(out.tensors())
}
