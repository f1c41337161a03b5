//! 2D convolution without im2col: vectors of output pixels read a padded input tile at shifted offsets.
//!
//! A task is a band of output rows, the whole width. It goes over the band in column tiles; for each it
//! copies the input it needs (padded, widened, upsampled, split by stride phase) into a cache-sized
//! buffer, in which the pixels that one kernel position sees are runs of consecutive floats. The product
//! with the weights is then a panel product (`cpu/panel.rs`), the depth being (channel, ky, kx). bf16 is convolved by
//! `in_blocks.rs` where the processor multiplies it.

mod in_blocks;
mod shape;
mod tile;

use crate::cpu::blocks::Instructions;
use crate::cpu::element::Element;
use crate::cpu::panel::{ByRow, PANEL};
use crate::cpu::view::{Tile, contiguous, tiles};
use crate::cpu::{by_dtype, vectorized};
use crate::options::Conv2dSpec;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use shape::{BAND_ROWS, Conv2d};
use tile::{Buffer, fill, panels};

/// Convolves `x` by `w` (cross-correlation, as everywhere in deep learning) and adds `b`.
///
/// - `x`: `[B, C, H, W]` f32|bf16, contiguous (on a GPU any strides, best channels-last)
/// - `w`: `[O, C, k, k]` of x's type, contiguous; `b`: `[O]`
///
/// Returns `[B, O, H', W']` with `H' = (H + 2 * padding - k) / stride + 1`, H doubled by `upsample`.
///
/// # Errors
/// The shapes do not fit each other or the kernel, a type or layout is another, or (on a GPU) the device or a size.
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, spec: Conv2dSpec) -> Result<Tensor> {
    let op = match (x.dims(), w.dims()) {
        (&[batch, channels, height, width], &[outputs, c, k, k2]) if channels == c && k == k2 && k > 0 => {
            Conv2d { batch, channels, height, width, outputs, k, spec }
        }
        _ => bail!("conv2d: x {:?}, w {:?}: expected [B, C, H, W], [O, C, k, k]", x.dims(), w.dims()),
    };
    let padded = (op.in_height().min(op.in_width())) + 2 * spec.padding;
    if spec.stride == 0 || padded < op.k || b.is_some_and(|b| b.dims() != [op.outputs]) {
        bail!(
            "conv2d: x {:?}, w {:?}, b {:?}, {spec:?}: kernel larger than input, stride 0 or b not [O]",
            x.dims(),
            w.dims(),
            b.map(|b| b.dims())
        )
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return crate::cuda::conv2d::conv2d(x, w, b, spec);
    }
    match b {
        Some(b) => x.apply_op3_no_bwd(w, b, &op),
        None => x.apply_op2_no_bwd(w, &op),
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!("conv2d", x, forward(*self, (x, xl), (w, wl), None))
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
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
        by_dtype!("conv2d", x, forward(*self, (x, xl), (w, wl), Some((b, bl))))
    }
}

/// Output channels that pass over all panels of a tile while their weights stay in cache.
const BLOCK_OUTPUTS: usize = 24;

fn forward<T: Element>(
    conv: Conv2d,
    (x, xl): (&CpuStorage, &Layout),
    (w, wl): (&CpuStorage, &Layout),
    b: Option<(&CpuStorage, &Layout)>,
) -> Result<(CpuStorage, Shape)> {
    let x = contiguous::<T>("conv2d", x, xl)?;
    let w = contiguous::<T>("conv2d", w, wl)?;
    let mut bias = vec![0f32; conv.outputs];
    if let Some((b, bl)) = b {
        T::load(contiguous("conv2d", b, bl)?, &mut bias);
    }
    let (height, width) = (conv.out_height(), conv.out_width());
    let shape = Shape::from((conv.batch, conv.outputs, height, width));
    if let Some(instructions) = Instructions::of::<T>() {
        return Ok((T::to_cpu_storage_owned(in_blocks::forward(instructions, conv, x, w, &bias)), shape));
    }
    let mut widened = Vec::new();
    let w = T::as_f32(w, &mut widened);
    let mut out = T::zeros(conv.batch * conv.outputs * height * width);
    let buffer = Buffer::new(&conv);
    // [B, O, H' * W'] cut along the last dimension: a tile holds the same band of rows of each channel.
    tiles(&mut out, (conv.outputs, height * width), (conv.outputs, BAND_ROWS * width))
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, tile| {
            let x = &x[tile.batch * conv.channels * conv.height * conv.width..];
            band(&conv, &buffer, x, (w, &bias), tile, scratch);
        });
    Ok((T::to_cpu_storage_owned(out), shape))
}

#[derive(Default)]
struct Scratch {
    /// As [`Buffer`] lays it out
    input: Vec<f32>,
    /// One input row, where x is not f32
    line: Vec<f32>,
    /// `[BLOCK_OUTPUTS, 64]`
    acc: Vec<f32>,
}

/// A band of output rows: `tile.rows` holds it for each output channel.
fn band<T: Element>(
    conv: &Conv2d,
    buffer: &Buffer,
    x: &[T],
    (w, bias): (&[f32], &[f32]),
    mut tile: Tile<'_, T>,
    scratch: &mut Scratch,
) {
    let width = conv.out_width();
    let (first_row, rows) = (tile.column / width, tile.rows[0].len() / width);
    let depth = conv.depth();
    scratch.input.resize(conv.channels * buffer.channel_stride, 0.0);
    scratch.acc.resize(BLOCK_OUTPUTS * PANEL, 0.0);
    for column in (0..width).step_by(buffer.columns) {
        fill(conv, buffer, x, (first_row, column), &mut scratch.input, &mut scratch.line);
        let panels = panels(conv, buffer, rows, buffer.columns.min(width - column));
        for (block, outs) in tile.rows.chunks_mut(BLOCK_OUTPUTS).enumerate() {
            let first = block * BLOCK_OUTPUTS;
            let left = (ByRow { data: &w[first * depth..], stride: depth }, outs.len());
            let acc = &mut scratch.acc[..outs.len() * PANEL];
            for panel in &panels {
                panel.multiply(left, &scratch.input, &buffer.steps, acc);
                for ((out, acc), bias) in outs.iter_mut().zip(acc.chunks_mut(PANEL)).zip(&bias[first..]) {
                    add_bias(acc, *bias);
                    for run in &panel.runs {
                        let start = run.row * width + column + run.column;
                        T::store(&acc[run.lane..][..run.width], &mut out[start..][..run.width]);
                    }
                }
            }
        }
    }
}

vectorized! {
    fn add_bias<'a>(acc: &'a mut [f32], bias: f32) {
        for v in acc {
            *v += bias;
        }
    }
}

#[cfg(test)]
mod tests;
