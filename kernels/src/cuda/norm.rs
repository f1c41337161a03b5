//! Launches `cuda/norm.cu`: LayerNorm and RMSNorm with weights.

use super::operand::{Input, Output, Rows, gpu};
use super::rows::{RowLaunch, same_device};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Tensor};

/// See [`crate::layer_norm()`], which has checked the shapes.
///
/// # Errors
/// Types or devices differ, or a row is not contiguous.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(crate) fn layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
    const OP: &str = "layer_norm";
    same_device(OP, x, &[w, b])?;
    let (gpu, dtype, eps) = (gpu(OP, x)?, x.dtype(), eps as f32);
    let kernel = gpu.kernel(OP, dtype)?;
    let (x_in, w, b) = (Input::new(OP, x), Input::typed(OP, w, dtype)?, Input::typed(OP, b, dtype)?);
    let (rows, weight, bias) = (x_in.rows()?, vector(&w)?, vector(&b)?);
    let sizes = RowLaunch::new(OP, dtype, &rows, &[&weight, &bias])?;
    let out = Output::new(&gpu, dtype, x.shape())?;
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&out.pointer).arg(&rows.pointer).arg(&weight.pointer).arg(&bias.pointer);
    launch.arg(&rows.batch_stride).arg(&rows.row_stride);
    launch.arg(&sizes.total).arg(&sizes.rows).arg(&sizes.width).arg(&sizes.warps).arg(&sizes.fast).arg(&eps);
    // SAFETY: (T*, const T* x 3, i64 x 2, u32 x 5, f32); x has `total` rows, w and b are one row each, and out is
    // contiguous with x's shape.
    unsafe { launch.launch(sizes.config) }.w()?;
    Ok(out.tensor())
}

/// See [`crate::rms_norm()`], which has checked the shapes.
///
/// # Errors
/// As above.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(crate) fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    const OP: &str = "rms_norm";
    same_device(OP, x, &[w])?;
    let (gpu, dtype, eps) = (gpu(OP, x)?, x.dtype(), eps as f32);
    let kernel = gpu.kernel(OP, dtype)?;
    let (x_in, w) = (Input::new(OP, x), Input::typed(OP, w, dtype)?);
    let (rows, weight) = (x_in.rows()?, vector(&w)?);
    let sizes = RowLaunch::new(OP, dtype, &rows, &[&weight])?;
    let out = Output::new(&gpu, dtype, x.shape())?;
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&out.pointer).arg(&rows.pointer).arg(&weight.pointer);
    launch.arg(&rows.batch_stride).arg(&rows.row_stride);
    launch.arg(&sizes.total).arg(&sizes.rows).arg(&sizes.width).arg(&sizes.warps).arg(&sizes.fast).arg(&eps);
    // SAFETY: (T*, const T* x 2, i64 x 2, u32 x 5, f32); as above without a bias.
    unsafe { launch.launch(sizes.config) }.w()?;
    Ok(out.tensor())
}

/// A vector as the one row that it is.
fn vector(x: &Input<'_>) -> Result<Rows> {
    x.contiguous()?;
    x.rows()
}
