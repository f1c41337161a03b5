//! The same by the products of [`crate::cpu::blocks`]: pairs of channels lie next to each other, so that the pixels that one
//! kernel position sees are lines of the right operand at shifted offsets. The depth is (ky, kx, channel).

use super::add_bias;
use super::shape::Conv2d;
use super::tile::{copy_padded, gather_padded};
use crate::cpu::blocks::{COLUMNS, DEPTH, Instructions, LeftBlocks, Multiplier, ROWS, Right};
use crate::cpu::element::Element;
use crate::cpu::view::{Tile, tiles};
use crate::options::Conv2dSpec;
use rayon::prelude::*;

/// Bytes of a tile's input that stay in the second-level cache together with a block of weights.
const TILE_BYTES: usize = 640 << 10;
/// Output channels that pass over a tile while their weights stay in cache.
const BLOCK_OUTPUTS: usize = 2 * ROWS;

/// `[B, O, H', W']`
pub(super) fn forward<T: Element>(
    instructions: Instructions,
    conv: Conv2d,
    x: &[T],
    w: &[T],
    bias: &[f32],
) -> Vec<T> {
    let weights = pack_weights(&conv, w);
    let buffer = Buffer::new(&conv);
    let (height, width) = (conv.out_height(), conv.out_width());
    let mut out = T::zeros(conv.batch * conv.outputs * height * width);
    let scratch = || Scratch {
        input: vec![0; buffer.len],
        lines: [vec![T::zero(); buffer.line_stride], vec![T::zero(); buffer.line_stride]],
        acc: vec![0.0; BLOCK_OUTPUTS * buffer.columns],
    };
    // [B, O, H' * W'] cut along the last dimension: a tile holds the same band of rows of each channel.
    tiles(&mut out, (conv.outputs, height * width), (conv.outputs, buffer.band_rows * width))
        .into_par_iter()
        .for_each_init(scratch, |scratch, tile| {
            let x = &x[tile.batch * conv.channels * conv.height * conv.width..];
            band(&Multiplier::new(instructions), &conv, &buffer, x, (&weights, bias), tile, scratch);
        });
    out
}

/// Channels, with zeros up to whole blocks of the depth.
fn padded_channels(conv: &Conv2d) -> usize {
    conv.channels.next_multiple_of(DEPTH)
}

/// `[O, C, k, k]` as rows of (ky, kx, channel).
fn pack_weights<T: Element>(conv: &Conv2d, w: &[T]) -> LeftBlocks {
    let (area, channels) = (conv.k * conv.k, padded_channels(conv));
    let depth = area * channels;
    let mut rows = T::zeros(conv.outputs * depth);
    rows.par_chunks_mut(depth).zip(w.par_chunks(conv.depth())).for_each(|(row, w)| {
        for (c, kernel) in w.chunks(area).enumerate() {
            for (position, value) in kernel.iter().enumerate() {
                row[position * channels + c] = *value;
            }
        }
    });
    LeftBlocks::pack((conv.outputs, depth), |o| &rows[o * depth..][..depth])
}

/// Where the input of a tile of output pixels lies: `[row][column % stride][channel pair][column / stride]`.
struct Buffer {
    band_rows: usize,
    /// Output columns of a tile
    columns: usize,
    /// Input rows of a band
    rows: usize,
    line_stride: usize,
    /// From one row and phase to the next
    phase_stride: usize,
    len: usize,
    /// Where the first pixel of each block of the depth lies
    steps: Vec<usize>,
}

impl Buffer {
    fn new(conv: &Conv2d) -> Self {
        let (k, stride) = (conv.k, conv.spec.stride);
        // Few rows make many tasks, many rows share more of the rows around them.
        let band_rows = if conv.out_height() >= 256 { 8 } else { 4 };
        let rows = (band_rows - 1) * stride + k;
        let pairs = padded_channels(conv) / 2;
        // An odd number of cache lines, so that the lines of a block do not fall on the same places of the cache.
        let line = |columns: usize| (columns + (k - 1) / stride).next_multiple_of(32) + 16;
        let bytes = |columns: usize| 4 * rows * stride * pairs * line(columns);
        let fits = |columns: &usize| bytes(*columns) <= TILE_BYTES && columns / 2 < conv.out_width();
        let columns = [512, 256, 128, 64].into_iter().find(fits).unwrap_or(COLUMNS);
        let line_stride = line(columns);
        let phase_stride = pairs * line_stride;
        let mut steps = Vec::with_capacity(k * k * pairs / (DEPTH / 2));
        for ky in 0..k {
            for kx in 0..k {
                let first = (ky * stride + kx % stride) * phase_stride + kx / stride;
                steps.extend((0..pairs).step_by(DEPTH / 2).map(|pair| first + pair * line_stride));
            }
        }
        let len = rows * stride * phase_stride;
        Self { band_rows, columns, rows, line_stride, phase_stride, len, steps }
    }
}

struct Scratch<T> {
    /// As [`Buffer`] lays it out
    input: Vec<u32>,
    /// A row of two channels
    lines: [Vec<T>; 2],
    /// `[BLOCK_OUTPUTS, columns of a tile]`
    acc: Vec<f32>,
}

/// A band of output rows: `tile.rows` holds it for each output channel.
fn band<T: Element>(
    multiplier: &Multiplier,
    conv: &Conv2d,
    buffer: &Buffer,
    x: &[T],
    (weights, bias): (&LeftBlocks, &[f32]),
    mut tile: Tile<'_, T>,
    scratch: &mut Scratch<T>,
) {
    let width = conv.out_width();
    let (first_row, rows) = (tile.column / width, tile.rows[0].len() / width);
    let row_stride = conv.spec.stride * conv.spec.stride * buffer.phase_stride;
    for column in (0..width).step_by(buffer.columns) {
        let columns = buffer.columns.min(width - column);
        fill(conv, buffer, x, (first_row, column), scratch);
        for (block, outs) in tile.rows.chunks_mut(BLOCK_OUTPUTS).enumerate() {
            let first = block * BLOCK_OUTPUTS;
            let left = weights.at((first, outs.len().div_ceil(ROWS)), 0);
            for row in 0..rows {
                for c in (0..columns).step_by(COLUMNS) {
                    let right = Right {
                        data: &scratch.input[row * row_stride + c..],
                        steps: &buffer.steps,
                        line_stride: buffer.line_stride,
                    };
                    multiplier.multiply(left, right, &mut scratch.acc[c..], buffer.columns, false);
                }
                let sums = scratch.acc.chunks_mut(buffer.columns);
                for ((out, sums), bias) in outs.iter_mut().zip(sums).zip(&bias[first..]) {
                    add_bias(&mut sums[..columns], *bias);
                    T::store(&sums[..columns], &mut out[row * width + column..][..columns]);
                }
            }
        }
    }
}

/// Copies the input under the tile at output (row, column) into the buffer, zeros outside it.
fn fill<T: Element>(
    conv: &Conv2d,
    buffer: &Buffer,
    x: &[T],
    (row, column): (usize, usize),
    scratch: &mut Scratch<T>,
) {
    let Conv2dSpec { stride, padding, upsample } = conv.spec;
    let plane = conv.height * conv.width;
    let [a, b] = &mut scratch.lines;
    for y in 0..buffer.rows {
        let input_y = (row * stride + y).wrapping_sub(padding);
        for phase in 0..stride {
            let first = (y * stride + phase) * buffer.phase_stride;
            if input_y >= conv.in_height() {
                scratch.input[first..][..buffer.phase_stride].fill(0);
                continue;
            }
            let from = column * stride + phase;
            for pair in 0..conv.channels.div_ceil(2) {
                for (i, line) in [&mut *a, &mut *b].into_iter().enumerate() {
                    let channel = 2 * pair + i;
                    if channel == conv.channels {
                        line.fill(T::zero());
                        continue;
                    }
                    let at = channel * plane + (input_y >> usize::from(upsample)) * conv.width;
                    let source = &x[at..][..conv.width];
                    if stride == 1 && !upsample {
                        copy_padded(source, from, padding, line);
                    } else {
                        gather_padded(source, from, conv.spec, line);
                    }
                }
                let out = &mut scratch.input[first + pair * buffer.line_stride..][..buffer.line_stride];
                T::pair(a, b, out);
            }
        }
    }
}
