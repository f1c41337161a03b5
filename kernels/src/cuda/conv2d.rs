//! Convolutions on GPUs, channels-last: an implicit product on tensor cores in bf16, candle's own elsewhere.
//!
//! A tensor keeps its shape `[B, C, H, W]` here; only its memory is ordered `[B, H, W, C]`.

use super::arguments::NhwcConvolution;
use super::operand::{Input, Output, gpu};
use super::select::Convolution;
use super::{cutlass, elementwise};
use crate::OutOfMemory;
use crate::options::{Activation, Conv2dSpec};
use candle_core::{DType, Result, Tensor, bail};

/// See [`crate::conv2d()`], which has checked the shapes.
pub(crate) fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, spec: Conv2dSpec) -> Result<Tensor> {
    let kernel = w.dims()[3];
    let keeps_size = spec.stride == 1 && 2 * spec.padding + 1 == kernel;
    let tensor_cores =
        x.dtype() == DType::BF16 && gpu("conv2d", x)?.kernels.convolution == Convolution::Ampere;
    match b {
        _ if keeps_size && kernel == 1 && !spec.upsample => pointwise(x, w, b),
        Some(b) if keeps_size && kernel == 3 && tensor_cores => implicit(x, w, b, spec.upsample),
        _ => portable(x, w, b, spec),
    }
}

/// `[B, C, H, W]` as the channels-last memory it has or gets, `[B, H, W, C]`.
fn channels_last(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 2, 3, 1))?.contiguous()
}

/// `[B, H, W, C]` as the shape the models know, without a copy.
fn channels_first(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 3, 1, 2))
}

/// A 1x1 convolution is a product over the pixels.
fn pointwise(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let outputs = w.dims()[0];
    let pixels = channels_last(x)?.reshape((batch * height * width, channels))?;
    let w = channels_last(w)?.reshape((outputs, channels))?;
    let y = super::linear::linear(&pixels, &w, b, Activation::None)?;
    channels_first(&y.reshape((batch, height, width, outputs))?)
}

/// The kernel keeps offsets in 32 bits: 256 channels of 2048 x 2048 pixels are too many.
const MOST_BYTES: usize = i32::MAX as usize;

/// A 3x3 convolution that keeps the size.
fn implicit(x: &Tensor, w: &Tensor, b: &Tensor, upsample: bool) -> Result<Tensor> {
    let x = channels_last(x)?;
    let x = if upsample { elementwise::upsample_nearest2x(&x)? } else { x };
    let w = channels_last(w)?;
    let (batch, _, width, channels) = x.dims4()?;
    let row_bytes = batch * width * channels.max(w.dims()[0]) * DType::BF16.size_in_bytes();
    let y = in_bands(&x, MOST_BYTES / row_bytes.max(1), |band| implicit_whole(band, &w, b))?;
    channels_first(&y)
}

/// A 3x3 convolution of `[B, H, W, C]` in bands of so many rows, their neighbours included: the same sums.
fn in_bands(x: &Tensor, most: usize, convolve: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let height = x.dims()[1];
    if height <= most {
        return convolve(x);
    }
    let Some(rows) = most.checked_sub(2).filter(|rows| *rows > 0) else {
        bail!("conv2d: x {:?}: a band of rows is more than a launch takes", x.dims())
    };
    let band = |first: usize| {
        let end = height.min(first + rows);
        let (from, to) = (first.saturating_sub(1), height.min(end + 1));
        let y = convolve(&x.narrow(1, from, to - from)?.contiguous()?)?;
        y.narrow(1, first - from, end - first)
    };
    let bands = (0..height).step_by(rows).map(band).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&bands, 1)
}

/// `[B, H, W, C]` to `[B, H, W, K]`, both contiguous.
#[expect(unsafe_code, reason = "a kernel launch")]
fn implicit_whole(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let outputs = w.dims()[0];
    let gpu = gpu("conv2d", x)?;
    let y = Output::new(&gpu, DType::BF16, (batch, height, width, outputs))?;
    // What is too large is negative, which the kernel's function refuses.
    let size = |n: usize| i32::try_from(n).unwrap_or(-1);
    let arguments = NhwcConvolution {
        x: Input::new("conv2d", x).contiguous()?.into(),
        weight: Input::typed("conv2d", w, DType::BF16)?.contiguous()?.into(),
        bias: Input::typed("conv2d", b, DType::BF16)?.contiguous()?.into(),
        out: y.pointer.into(),
        n: size(batch),
        h: size(height),
        w: size(width),
        c: size(channels),
        k: size(outputs),
        kernel: 3,
    };
    // SAFETY: the shapes are checked, and everything is contiguous.
    unsafe { cutlass::conv2d(&gpu, &arguments)? };
    Ok(y.tensor())
}

/// candle's convolution: it writes every pixel's neighbours into a matrix, with 32 bits for the number of its elements
/// (`im2col_kernel` in candle-core 0.11.1), and leaves what is beyond them unwritten.
fn portable(x: &Tensor, w: &Tensor, b: Option<&Tensor>, spec: Conv2dSpec) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let scale = if spec.upsample { 2 } else { 1 };
    let side = |side: usize| (scale * side + 2 * spec.padding).saturating_sub(w.dims()[2]) / spec.stride + 1;
    if u32::try_from(batch * side(height) * side(width) * channels * w.dims()[2] * w.dims()[3]).is_err() {
        // Decoding then goes on in tiles.
        return Err(OutOfMemory.into());
    }
    let x = x.contiguous()?;
    let x = if spec.upsample { x.upsample_nearest2d(2 * height, 2 * width)? } else { x };
    let y = x.conv2d(&w.contiguous()?, spec.padding, spec.stride, 1, 1)?;
    match b {
        Some(b) => y.broadcast_add(&b.reshape((1, (), 1, 1))?),
        None => Ok(y),
    }
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::*;
    use crate::is_out_of_memory;
    use crate::testing::normal;

    /// The decoder's last convolutions of an image of 1440x1440 in f32. Nothing so large is allocated here.
    #[test]
    fn more_neighbours_than_candle_writes_are_out_of_memory() -> Result<()> {
        let gpu = open(0, None)?;
        let x = Tensor::zeros((1, 1, 1, 1), DType::F32, &gpu)?.broadcast_as((1, 256, 1440, 1440))?;
        let w = Tensor::zeros((1, 256, 3, 3), DType::F32, &gpu)?;
        let spec = Conv2dSpec { stride: 1, padding: 1, upsample: false };
        assert!(conv2d(&x, &w, None, spec).is_err_and(|error| is_out_of_memory(&error)));
        Ok(())
    }

    /// On the processor: how rows are cut has nothing to do with a GPU.
    #[test]
    fn bands_of_rows_are_the_whole() -> Result<()> {
        let (x, w) = (normal(&[2, 9, 5, 4], 1), normal(&[6, 4, 3, 3], 2));
        let convolve =
            |x: &Tensor| x.permute((0, 3, 1, 2))?.contiguous()?.conv2d(&w, 1, 1, 1, 1)?.permute((0, 2, 3, 1));
        let whole = convolve(&x)?.flatten_all()?.to_vec1::<f32>()?;
        for most in [3, 4, 7, 8, 9] {
            let bands = in_bands(&x, most, convolve)?.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(bands, whole, "{most} rows");
        }
        assert!(in_bands(&x, 2, convolve).is_err());
        Ok(())
    }
}
