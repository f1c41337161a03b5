//! Copying operands into the layouts of [`super`].

use super::{COLUMNS, DEPTH, LEFT_BLOCK, Left, PAIRS, ROWS, Right};
use crate::cpu::element::Element;
use crate::cpu::transpose::transpose;
use rayon::prelude::*;

/// Pairs of a block of the right operand.
const RIGHT_BLOCK: usize = PAIRS * COLUMNS;

/// A matrix as the left operand.
pub(crate) struct LeftBlocks {
    data: Vec<u16>,
    /// Values of 16 rows.
    block: usize,
}

impl LeftBlocks {
    /// From rows of `depth`, on all threads.
    pub(crate) fn pack<'a, T: Element>(
        (rows, depth): (usize, usize),
        row: impl Fn(usize) -> &'a [T] + Sync,
    ) -> Self {
        let block = depth.div_ceil(DEPTH) * LEFT_BLOCK;
        let mut data = vec![0u16; rows.div_ceil(ROWS) * block];
        data.par_chunks_mut(block).enumerate().for_each(|(i, out)| {
            for r in 0..ROWS.min(rows - i * ROWS) {
                pack_row(row(i * ROWS + r), r, out);
            }
        });
        Self { data, block }
    }

    /// `row_blocks` blocks from the one of row `row` on, from block `k` of the depth on.
    pub(crate) fn at(&self, (row, row_blocks): (usize, usize), k: usize) -> Left<'_> {
        let first = row / ROWS * self.block + k * LEFT_BLOCK;
        Left { data: &self.data[first..], row_blocks, stride: self.block }
    }
}

/// Writes row `r` of a left block `[depth block][16][32]`; what is behind its end stays as it is.
fn pack_row<T: Element>(row: &[T], r: usize, out: &mut [u16]) {
    for (k, values) in row.chunks(DEPTH).enumerate() {
        T::to_bf16_bits(values, &mut out[(k * ROWS + r) * DEPTH..][..values.len()]);
    }
}

/// Pairs that a packed panel of `depth` takes.
pub(crate) fn panel_len(depth: usize) -> usize {
    depth.div_ceil(DEPTH) * RIGHT_BLOCK
}

/// Where the blocks of a packed panel begin.
pub(crate) fn panel_steps(depth: usize) -> Vec<usize> {
    (0..depth.div_ceil(DEPTH)).map(|k| k * RIGHT_BLOCK).collect()
}

/// A packed panel.
pub(crate) fn panel<'a>(data: &'a [u32], steps: &'a [usize]) -> Right<'a> {
    Right { data, steps, line_stride: COLUMNS }
}

/// Packs at most 32 columns, each of which lies along the depth, as `[depth block][16][32]`; zeros beyond them.
pub(crate) fn pack_panel<'a, T: Element>(
    (columns, depth): (usize, usize),
    column: impl Fn(usize) -> &'a [T],
    out: &mut [u32],
) {
    // To be turned round.
    let mut lines = [0u32; COLUMNS * PAIRS];
    for (k, out) in out.chunks_mut(RIGHT_BLOCK).enumerate() {
        let first = k * DEPTH;
        let steps = DEPTH.min(depth - first);
        if steps < DEPTH {
            lines.fill(0);
        }
        let values: &mut [u16] = bytemuck::cast_slice_mut(&mut lines);
        for c in 0..columns {
            T::to_bf16_bits(&column(c)[first..][..steps], &mut values[c * DEPTH..][..steps]);
        }
        let (lines, out) = (bytemuck::cast_slice(&lines), bytemuck::cast_slice_mut(out));
        transpose(lines, PAIRS, (COLUMNS, PAIRS), out, COLUMNS);
    }
}

/// Packs columns, each of which lies along the depth, panel after panel, on all threads.
pub(crate) fn pack_panels<'a, T: Element>(
    (columns, depth): (usize, usize),
    column: impl Fn(usize) -> &'a [T] + Sync,
) -> Vec<u32> {
    let len = panel_len(depth);
    let mut data = vec![0u32; columns.div_ceil(COLUMNS) * len];
    data.par_chunks_mut(len).enumerate().for_each(|(i, out)| {
        let first = i * COLUMNS;
        pack_panel((COLUMNS.min(columns - first), depth), |c| column(first + c), out);
    });
    data
}

/// A matrix as the right operand.
pub(crate) struct RightPanels<'a> {
    data: &'a [u32],
    steps: Vec<usize>,
    len: usize,
}

impl<'a> RightPanels<'a> {
    /// Of what [`pack_panels`] made.
    pub(crate) fn new(data: &'a [u32], depth: usize) -> Self {
        Self { data, steps: panel_steps(depth), len: panel_len(depth) }
    }

    /// The panel of column `column`, `blocks` blocks of the depth from block `k` on.
    pub(crate) fn at(&self, column: usize, k: usize, blocks: usize) -> Right<'_> {
        panel(&self.data[column / COLUMNS * self.len..][..self.len], &self.steps[k..][..blocks])
    }
}
