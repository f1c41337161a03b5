//! Launches `cuda/norm.cu`: LayerNorm and RMSNorm with weights.

use super::arguments::{LayerNorm, RmsNorm, launch};
use super::operand::{Input, Output, Rows, gpu};
use super::rows::{RowLaunch, same_device};
use candle_core::{Result, Tensor};

/// See [`crate::layer_norm()`], which has checked the shapes.
///
/// # Errors
/// Types or devices differ, or a row is not contiguous.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(crate) fn layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
    const OP: &str = "layer_norm";
    same_device(OP, x, &[w, b])?;
    let (gpu, dtype) = (gpu(OP, x)?, x.dtype());
    let kernel = gpu.kernel(OP, dtype)?;
    let (x_in, w, b) = (Input::new(OP, x), Input::typed(OP, w, dtype)?, Input::typed(OP, b, dtype)?);
    let (rows, weight, bias) = (x_in.rows()?, vector(&w)?, vector(&b)?);
    let RowLaunch { sizes, config } = RowLaunch::new(OP, dtype, &rows, &[&weight, &bias])?;
    let out = Output::new(&gpu, dtype, x.shape())?;
    let arguments = LayerNorm {
        out: out.pointer.into(),
        x: rows.pointer.into(),
        weight: weight.pointer.into(),
        bias: bias.pointer.into(),
        x_strides: rows.strides(),
        sizes,
        eps: eps as f32,
    };
    // SAFETY: x has `total` rows, w and b are one row each, and out is contiguous with x's shape.
    unsafe { launch(gpu.stream(), &kernel, config, &arguments)? };
    Ok(out.tensor())
}

/// See [`crate::rms_norm()`], which has checked the shapes.
///
/// # Errors
/// Types or devices differ, or a row is not contiguous.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(crate) fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    const OP: &str = "rms_norm";
    same_device(OP, x, &[w])?;
    let (gpu, dtype) = (gpu(OP, x)?, x.dtype());
    let kernel = gpu.kernel(OP, dtype)?;
    let (x_in, w) = (Input::new(OP, x), Input::typed(OP, w, dtype)?);
    let (rows, weight) = (x_in.rows()?, vector(&w)?);
    let RowLaunch { sizes, config } = RowLaunch::new(OP, dtype, &rows, &[&weight])?;
    let out = Output::new(&gpu, dtype, x.shape())?;
    let arguments = RmsNorm {
        out: out.pointer.into(),
        x: rows.pointer.into(),
        weight: weight.pointer.into(),
        x_strides: rows.strides(),
        sizes,
        eps: eps as f32,
    };
    // SAFETY: x has `total` rows, w is one row, and out is contiguous with x's shape.
    unsafe { launch(gpu.stream(), &kernel, config, &arguments)? };
    Ok(out.tensor())
}

/// A vector as the one row that it is.
fn vector(x: &Input<'_>) -> Result<Rows> {
    x.contiguous()?;
    x.rows()
}
