//! The input of a tile of output pixels, copied so that each kernel position sees runs of floats.

use super::shape::{BAND_ROWS, Conv2d};
use crate::cpu::element::Element;
use crate::cpu::panel::{ByRow, CHUNK, Gather, PANEL, Shifted, multiply};
use crate::options::Conv2dSpec;

/// Floats of a tile's input that stay in the second-level cache together with a block of weights.
const TILE_FLOATS: usize = 1 << 18;

/// Where the input of a tile lies in its buffer: `[channel][row][column % stride][column / stride]`.
pub(super) struct Buffer {
    /// Output columns of a tile
    pub(super) columns: usize,
    rows: usize,
    phase_stride: usize,
    row_stride: usize,
    pub(super) channel_stride: usize,
    /// `[C * k * k]`: how far into the buffer the first pixel of each kernel position lies
    pub(super) steps: Vec<usize>,
}

impl Buffer {
    pub(super) fn new(conv: &Conv2d) -> Self {
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

/// 64 output pixels of a tile: four chunks of 16 neighbours, each starting anywhere.
#[derive(Default)]
pub(super) struct Panel {
    /// Where each chunk's input lies in the buffer, for kernel position (0, 0, 0)
    offsets: [usize; PANEL / CHUNK],
    /// Where its results go
    pub(super) runs: Vec<Run>,
}

/// Neighbouring pixels of one output row.
pub(super) struct Run {
    pub(super) lane: usize,
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) width: usize,
}

impl Panel {
    /// `left` by this panel of `input`, the depth being (channel, ky, kx).
    pub(super) fn multiply(&self, left: (ByRow<'_>, usize), input: &[f32], steps: &[usize], acc: &mut [f32]) {
        let [first, ..] = self.offsets;
        if self.offsets == [first, first + CHUNK, first + 2 * CHUNK, first + 3 * CHUNK] {
            multiply(left, Shifted { data: &input[first..], steps }, steps.len(), acc, false);
        } else {
            multiply(left, Gather { data: input, chunks: self.offsets, steps }, steps.len(), acc, false);
        }
    }
}

/// The panels of a tile of `rows` by `columns` outputs.
pub(super) fn panels(conv: &Conv2d, buffer: &Buffer, rows: usize, columns: usize) -> Vec<Panel> {
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

/// Copies the input under the tile at output (row, column) into `input`, zeros outside it.
pub(super) fn fill<T: Element>(
    conv: &Conv2d,
    buffer: &Buffer,
    x: &[T],
    (row, column): (usize, usize),
    input: &mut [f32],
    line: &mut Vec<f32>,
) {
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
                    gather_padded(source, first, conv.spec, out);
                }
            }
        }
    }
}

/// `out[i] = source[first + i - padding]`, zero outside the source.
pub(super) fn copy_padded<T: Element>(source: &[T], first: usize, padding: usize, out: &mut [T]) {
    let zeros = padding.saturating_sub(first).min(out.len());
    let start = (first + zeros).saturating_sub(padding).min(source.len());
    let copied = (out.len() - zeros).min(source.len() - start);
    out[..zeros].fill(T::zero());
    out[zeros..][..copied].copy_from_slice(&source[start..][..copied]);
    out[zeros + copied..].fill(T::zero());
}

/// The same of every `stride`-th pixel of the source, which may be upsampled.
pub(super) fn gather_padded<T: Element>(source: &[T], first: usize, spec: Conv2dSpec, out: &mut [T]) {
    for (i, out) in out.iter_mut().enumerate() {
        let at = (first + i * spec.stride).wrapping_sub(spec.padding) >> usize::from(spec.upsample);
        *out = source.get(at).copied().unwrap_or(T::zero());
    }
}
