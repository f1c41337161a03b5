//! 2D convolution without im2col: vectors of output pixels read a padded input tile at shifted offsets.
//!
//! A task is a band of output rows, the whole width. It goes over the band in column tiles; for each it
//! copies the input it needs (padded, widened, upsampled, split by stride phase) into a cache-sized
//! buffer, in which the pixels that one kernel position sees are runs of consecutive floats. The product
//! with the weights is then [`multiply`] over a [`Gather`] panel, the depth being (channel, ky, kx).

use crate::cpu::element::Element;
use crate::cpu::panel::{ByRow, CHUNK, Gather, PANEL, Shifted, multiply};
use crate::cpu::view::{Tile, contiguous, tiles};
use crate::cpu::{by_dtype, vectorized};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// How a convolution moves over its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dSpec {
    /// Input pixels between neighbouring outputs, in both directions.
    pub stride: usize,
    /// Zeros around the (upsampled) input on each side.
    pub padding: usize,
    /// Whether each input pixel is first repeated 2x2 (nearest upsampling), without storing that map.
    pub upsample: bool,
}

impl Default for Conv2dSpec {
    /// Stride 1, no padding, no upsampling.
    fn default() -> Self {
        Self { stride: 1, padding: 0, upsample: false }
    }
}

/// Convolves `x` by `w` (cross-correlation, as everywhere in deep learning) and adds `b`.
///
/// - `x`: `[B, C, H, W]` f32|bf16, contiguous
/// - `w`: `[O, C, k, k]` of x's type, contiguous; `b`: `[O]`
///
/// Returns `[B, O, H', W']` with `H' = (H + 2 * padding - k) / stride + 1`, H doubled by `upsample`.
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
    match b {
        Some(b) => x.apply_op3_no_bwd(w, b, &op),
        None => x.apply_op2_no_bwd(w, &op),
    }
}

#[derive(Clone, Copy)]
struct Conv2d {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    outputs: usize,
    k: usize,
    spec: Conv2dSpec,
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

/// Output rows of a task.
const BAND_ROWS: usize = 4;
/// Floats of a tile's input that stay in the second-level cache beside a block of weights.
const TILE_FLOATS: usize = 1 << 18;
/// Output channels that pass over all panels of a tile while their weights stay in cache.
const BLOCK_OUTPUTS: usize = 24;

impl Conv2d {
    fn in_height(&self) -> usize {
        self.height << usize::from(self.spec.upsample)
    }

    fn in_width(&self) -> usize {
        self.width << usize::from(self.spec.upsample)
    }

    fn out_height(&self) -> usize {
        (self.in_height() + 2 * self.spec.padding - self.k) / self.spec.stride + 1
    }

    fn out_width(&self) -> usize {
        (self.in_width() + 2 * self.spec.padding - self.k) / self.spec.stride + 1
    }

    fn depth(&self) -> usize {
        self.channels * self.k * self.k
    }
}

fn forward<T: Element>(
    conv: Conv2d,
    (x, xl): (&CpuStorage, &Layout),
    (w, wl): (&CpuStorage, &Layout),
    b: Option<(&CpuStorage, &Layout)>,
) -> Result<(CpuStorage, Shape)> {
    let x = contiguous::<T>("conv2d", x, xl)?;
    let mut widened = Vec::new();
    let w = T::as_f32(contiguous::<T>("conv2d", w, wl)?, &mut widened);
    let mut bias = vec![0f32; conv.outputs];
    if let Some((b, bl)) = b {
        T::load(contiguous("conv2d", b, bl)?, &mut bias);
    }
    let (height, width) = (conv.out_height(), conv.out_width());
    let mut out = vec![T::zero(); conv.batch * conv.outputs * height * width];
    let buffer = Buffer::new(&conv);
    // [B, O, H' * W'] cut along the last dimension: a tile holds the same band of rows of each channel.
    tiles(&mut out, (conv.outputs, height * width), (conv.outputs, BAND_ROWS * width))
        .into_par_iter()
        .for_each_init(Scratch::default, |scratch, tile| {
            let x = &x[tile.batch * conv.channels * conv.height * conv.width..];
            band(&conv, &buffer, x, (w, &bias), tile, scratch);
        });
    Ok((T::to_cpu_storage_owned(out), Shape::from((conv.batch, conv.outputs, height, width))))
}

/// Where the input of a tile lies in its buffer: `[channel][row][column % stride][column / stride]`.
struct Buffer {
    /// Output columns of a tile
    columns: usize,
    rows: usize,
    phase_stride: usize,
    row_stride: usize,
    channel_stride: usize,
    /// `[C * k * k]`: how far into the buffer the first pixel of each kernel position lies
    steps: Vec<usize>,
}

impl Buffer {
    fn new(conv: &Conv2d) -> Self {
        let (k, stride) = (conv.k, conv.spec.stride);
        let rows = (BAND_ROWS - 1) * stride + k;
        // As wide as the cache allows: every row of the input lies on a memory page of its own.
        let fits = |columns: &usize| {
            conv.channels * rows * stride * columns <= TILE_FLOATS && columns / 2 < conv.out_width()
        };
        let columns = [8 * PANEL, 4 * PANEL, 2 * PANEL].into_iter().find(fits).unwrap_or(PANEL);
        let phase_stride = columns + (k - 1) / stride;
        let row_stride = stride * phase_stride;
        let channel_stride = rows * row_stride;
        let mut steps = Vec::with_capacity(conv.depth());
        for channel in 0..conv.channels {
            for ky in 0..k {
                for kx in 0..k {
                    let column = kx % stride * phase_stride + kx / stride;
                    steps.push(channel * channel_stride + ky * row_stride + column);
                }
            }
        }
        Self { columns, rows, phase_stride, row_stride, channel_stride, steps }
    }
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
        fill(conv, buffer, x, (first_row, column), scratch);
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

/// 64 output pixels of a tile: four chunks of 16 neighbours, each starting anywhere.
#[derive(Default)]
struct Panel {
    /// Where each chunk's input lies in the buffer, for kernel position (0, 0, 0)
    offsets: [usize; PANEL / CHUNK],
    /// Where its results go
    runs: Vec<Run>,
}

/// Neighbouring pixels of one output row.
struct Run {
    lane: usize,
    row: usize,
    column: usize,
    width: usize,
}

impl Panel {
    fn multiply(&self, left: (ByRow<'_>, usize), input: &[f32], steps: &[usize], acc: &mut [f32]) {
        let [first, ..] = self.offsets;
        if self.offsets == [first, first + CHUNK, first + 2 * CHUNK, first + 3 * CHUNK] {
            multiply(left, Shifted { data: &input[first..], steps }, steps.len(), acc, false);
        } else {
            multiply(left, Gather { data: input, chunks: self.offsets, steps }, steps.len(), acc, false);
        }
    }
}

/// The panels of a tile of `rows` by `columns` outputs.
fn panels(conv: &Conv2d, buffer: &Buffer, rows: usize, columns: usize) -> Vec<Panel> {
    let chunks: Vec<(usize, usize)> =
        (0..rows).flat_map(|row| (0..columns).step_by(CHUNK).map(move |column| (row, column))).collect();
    let panel = |chunks: &[(usize, usize)]| {
        let mut panel = Panel::default();
        for (i, offset) in panel.offsets.iter_mut().enumerate() {
            // A short last panel repeats its last chunk; those lanes are computed and dropped.
            let (row, column) = chunks[i.min(chunks.len() - 1)];
            *offset = row * conv.spec.stride * buffer.row_stride + column;
        }
        for (i, &(row, column)) in chunks.iter().enumerate() {
            let width = CHUNK.min(columns - column);
            match panel.runs.last_mut() {
                Some(run) if run.row == row => run.width += width,
                _ => panel.runs.push(Run { lane: i * CHUNK, row, column, width }),
            }
        }
        panel
    };
    chunks.chunks(PANEL / CHUNK).map(panel).collect()
}

/// Copies the input under the tile at output (row, column) into the scratch buffer, zeros outside it.
fn fill<T: Element>(
    conv: &Conv2d,
    buffer: &Buffer,
    x: &[T],
    (row, column): (usize, usize),
    scratch: &mut Scratch,
) {
    let Scratch { input, line, .. } = scratch;
    let Conv2dSpec { stride, padding, upsample } = conv.spec;
    let first_column = column * stride;
    for (channel, area) in input.chunks_mut(buffer.channel_stride).enumerate() {
        let plane = &x[channel * conv.height * conv.width..][..conv.height * conv.width];
        for (y, out) in area.chunks_mut(buffer.row_stride).enumerate().take(buffer.rows) {
            let y = row * stride + y;
            if y < padding || y - padding >= conv.in_height() {
                out.fill(0.0);
                continue;
            }
            let source = (y - padding) >> usize::from(upsample);
            let source = T::as_f32(&plane[source * conv.width..][..conv.width], line);
            for (phase, out) in out.chunks_mut(buffer.phase_stride).enumerate() {
                let first = first_column + phase;
                if stride == 1 && !upsample {
                    copy_padded(source, first, padding, out);
                } else {
                    for (i, out) in out.iter_mut().enumerate() {
                        let at = (first + i * stride).wrapping_sub(padding) >> usize::from(upsample);
                        *out = source.get(at).copied().unwrap_or(0.0);
                    }
                }
            }
        }
    }
}

/// `out[i] = source[first + i - padding]`, zero outside the source.
fn copy_padded(source: &[f32], first: usize, padding: usize, out: &mut [f32]) {
    let zeros = padding.saturating_sub(first).min(out.len());
    let start = (first + zeros).saturating_sub(padding).min(source.len());
    let copied = (out.len() - zeros).min(source.len() - start);
    out[..zeros].fill(0.0);
    out[zeros..][..copied].copy_from_slice(&source[start..][..copied]);
    out[zeros + copied..].fill(0.0);
}

#[cfg(test)]
mod tests;
