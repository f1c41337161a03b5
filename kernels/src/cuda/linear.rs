//! Linear layers on GPUs: cuBLASLt with the bias, and GELU where it is worth it, in the epilogue.

use super::device::Gpu;
use super::elementwise;
use super::operand::{Input, Output, Rows, gpu, size};
use super::product::{Addresses, Epilogue, Shape};
use super::quantize::{Rowwise, quantize_rowwise};
use super::select::Fp8;
use crate::options::Activation;
use candle_core::{DType, Device, Result, Tensor, bail};

/// See [`crate::linear()`], which has checked the shapes.
pub(crate) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Activation) -> Result<Tensor> {
    let rows = Input::new("linear", x).rows()?;
    let w = Input::typed("linear", w, x.dtype())?;
    // cuBLASLt's GELU uses the fast hyperbolic tangent, which f32 is not asked for.
    let fused = act == Activation::GeluTanh && b.is_some() && x.dtype() == DType::BF16;
    let y = product(x, rows, (w.layout.dims()[0], w.contiguous()?), b, None, fused)?;
    match act {
        Activation::None => (),
        Activation::GeluTanh if fused => (),
        other => elementwise::activate(&y, other)?,
    }
    Ok(y)
}

/// `x w^T + b` of e4m3 values with a scale for each row of x and of w.
///
/// - `x`: `[.., K]`; `w`: `[N, K]`; K a multiple of 16; `b`: `[N]` bf16
///
/// Returns x's shape with `N` in place of `K`, bf16.
///
/// # Errors
/// The shapes do not fit, or cuBLASLt has no such products on the GPU.
pub fn linear_rowwise(x: &Rowwise, w: &Rowwise, b: Option<&Tensor>) -> Result<Tensor> {
    let (x_dims, w_dims) = (x.values.dims(), w.values.dims());
    let bias = b.map(|b| b.dims());
    let fits = w_dims.len() == 2 && x_dims.last() == w_dims.last() && w_dims[1].is_multiple_of(16);
    if !fits || bias.is_some_and(|bias| bias != &w_dims[..1]) {
        bail!("linear_rowwise: x {x_dims:?}, w {w_dims:?}, b {bias:?}: expected [.., K], [N, K], [N], 16 | K")
    }
    let x_in = Input::typed("linear_rowwise", &x.values, DType::U8)?;
    x_in.contiguous()?;
    let x_scales = Input::typed("linear_rowwise", &x.scales, DType::F32)?.contiguous()?;
    let w_scales = Input::typed("linear_rowwise", &w.scales, DType::F32)?.contiguous()?;
    let w_at = Input::typed("linear_rowwise", &w.values, DType::U8)?.contiguous()?;
    product(&x.values, x_in.rows()?, (w_dims[0], w_at), b, Some((x_scales, w_scales)), false)
}

/// Multiplies once in fp8, as [`linear_rowwise`] does.
///
/// # Errors
/// The device is none, or has no such products.
pub fn check_fp8(device: &Device) -> Result<()> {
    let gpu = Gpu::of(device.as_cuda_device()?)?;
    let (major, minor) = gpu.capability;
    if gpu.kernels.fp8 == Fp8::None {
        bail!(
            "cuBLASLt has products with a scale for each row on Hopper, and not on compute capability {major}.{minor}"
        )
    }
    let ones = Tensor::ones((128, 128), DType::BF16, device)?;
    let bias = Tensor::zeros(128, DType::BF16, device)?;
    let ones = quantize_rowwise(&ones, false)?;
    linear_rowwise(&ones, &ones, Some(&bias))?;
    device.synchronize()
}

fn product(
    x: &Tensor,
    rows: Rows,
    (outputs, w): (usize, u64),
    b: Option<&Tensor>,
    scales: Option<(u64, u64)>,
    gelu: bool,
) -> Result<Tensor> {
    let gpu = gpu("linear", x)?;
    let out = if scales.is_some() { DType::BF16 } else { x.dtype() };
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    let y = Output::new(&gpu, out, dims)?;
    if x.elem_count() == 0 || outputs == 0 {
        return Ok(y.tensor());
    }
    let bias = b.map(|b| Input::typed("linear", b, out)?.contiguous()).transpose()?;
    let epilogue = match (bias, gelu) {
        (None, _) => Epilogue::None,
        (Some(_), false) => Epilogue::Bias,
        (Some(_), true) => Epilogue::BiasGelu,
    };
    let rows = rows.merged();
    let shape = Shape {
        dtype: x.dtype(),
        batch: rows.batch,
        rows: rows.rows,
        inputs: rows.width,
        outputs: size("linear", outputs)?,
        x_stride: rows.row_stride,
        x_batch: rows.batch_stride,
        x_alignment: alignment(rows.pointer),
        w_alignment: alignment(w),
        epilogue,
    };
    let at = Addresses { x: rows.pointer, w, bias: bias.unwrap_or(0), y: y.pointer, scales };
    gpu.gemm().run(gpu.stream(), shape, at)?;
    Ok(y.tensor())
}

/// The largest power of two that divides an address, up to the 256 bytes that cuBLASLt would assume.
fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(8)
}
