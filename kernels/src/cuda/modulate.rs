//! Launches `cuda/modulate.cu`: adaptive LayerNorm, its result as stored or as e4m3 rows.

use super::operand::{Input, Output, gpu};
use super::quantize::{Rowwise, RowwiseOutput};
use super::rows::{RowLaunch, row_of_each, same_device};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Tensor};

const OP: &str = "layer_norm_modulate";

/// See [`crate::layer_norm_modulate()`], which has checked the shapes.
///
/// # Errors
/// Types or devices differ, or a row is not contiguous.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(crate) fn layer_norm_modulate(
    x: &Tensor,
    mods: &Tensor,
    shift: usize,
    scale: usize,
    eps: f64,
) -> Result<Tensor> {
    same_device(OP, x, &[mods])?;
    let (gpu, dtype, eps) = (gpu(OP, x)?, x.dtype(), eps as f32);
    let kernel = gpu.kernel("layer_norm_modulate", dtype)?;
    let (x_in, mods_in) = (Input::new(OP, x), Input::typed(OP, mods, dtype)?);
    let (rows, mods) = (x_in.rows()?, mods_in.rows()?);
    let (shift, scale) = (row_of_each(&mods, shift, dtype), row_of_each(&mods, scale, dtype));
    let sizes = RowLaunch::new(OP, dtype, &rows, &[&shift, &scale])?;
    let out = Output::new(&gpu, dtype, x.shape())?;
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&out.pointer).arg(&rows.pointer).arg(&shift.pointer).arg(&scale.pointer);
    launch.arg(&rows.batch_stride).arg(&rows.row_stride).arg(&mods.batch_stride);
    launch.arg(&sizes.total).arg(&sizes.rows).arg(&sizes.width).arg(&sizes.warps).arg(&sizes.fast).arg(&eps);
    // SAFETY: (T*, const T* x 3, i64 x 3, u32 x 5, f32); x has `total` rows, mods a row for each batch element at both
    // addresses, and out is contiguous with x's shape.
    unsafe { launch.launch(sizes.config) }.w()?;
    Ok(out.tensor())
}

/// [`layer_norm_modulate`] as e4m3 rows, quantised from f32.
///
/// # Errors
/// As above.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(crate) fn layer_norm_modulate_rowwise(
    x: &Tensor,
    mods: &Tensor,
    shift: usize,
    scale: usize,
    eps: f64,
) -> Result<Rowwise> {
    same_device(OP, x, &[mods])?;
    let (gpu, dtype, eps) = (gpu(OP, x)?, x.dtype(), eps as f32);
    let kernel = gpu.kernel("layer_norm_modulate_rowwise", dtype)?;
    let (x_in, mods_in) = (Input::new(OP, x), Input::typed(OP, mods, dtype)?);
    let (rows, mods) = (x_in.rows()?, mods_in.rows()?);
    let (shift, scale) = (row_of_each(&mods, shift, dtype), row_of_each(&mods, scale, dtype));
    let sizes = RowLaunch::new(OP, dtype, &rows, &[&shift, &scale])?;
    let out = RowwiseOutput::new(&gpu, x.dims())?;
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&out.values.pointer).arg(&out.scales.pointer);
    launch.arg(&rows.pointer).arg(&shift.pointer).arg(&scale.pointer);
    launch.arg(&rows.batch_stride).arg(&rows.row_stride).arg(&mods.batch_stride);
    launch.arg(&sizes.total).arg(&sizes.rows).arg(&sizes.width).arg(&sizes.warps).arg(&sizes.fast).arg(&eps);
    // SAFETY: (e4m3*, f32*, const T* x 3, i64 x 3, u32 x 5, f32); as above, with a byte for each element and a scale
    // for each row.
    unsafe { launch.launch(sizes.config) }.w()?;
    Ok(out.rowwise())
}
