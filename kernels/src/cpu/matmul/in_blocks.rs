//! `x w^T` by the products of [`crate::cpu::blocks`]. A sum is the same chain of instructions however rows, columns and
//! depth are cut.

use super::{Epilogue, Weights};
use crate::cpu::blocks::{COLUMNS, DEPTH, Instructions, LeftBlocks, Multiplier, ROWS, RightPanels};
use crate::cpu::blocks::{pack_panel, pack_panels, panel, panel_len, panel_steps};
use crate::cpu::element::Element;
use crate::cpu::view::{Rows, Tile, tiles};
use rayon::prelude::*;

/// Rows of a task.
const TASK_ROWS: usize = 256;
/// Columns of a task: eight panels share each block of x.
const TASK_COLUMNS: usize = 8 * COLUMNS;
/// bf16 values of a row of x after which sums go back to memory, so that a task's rows stay in the second-level cache.
const ROW_VALUES: usize = 512;

/// `[B, M, K]` times `w`: `out` `[B, M, N]`, with `epilogue` applied.
pub(super) fn matmul<T: Element>(
    instructions: Instructions,
    x: Rows<'_, T>,
    w: Weights<'_, T>,
    out: &mut [T],
    n: usize,
    epilogue: Epilogue<'_>,
) {
    let (m, depth) = (x.batch * x.rows, x.width);
    let left = LeftBlocks::pack((m, depth), |row| x.row(row / x.rows, row % x.rows));
    let packed_here;
    let (rows, panels) = match w {
        Weights::Blocks(blocks) => (&[][..], Some(blocks)),
        // A panel that has one task alone is packed by it, in its cache.
        Weights::Rows(w) if m <= TASK_ROWS => (w, None),
        Weights::Rows(w) => {
            packed_here = pack_panels((n, depth), |column| &w[column * depth..][..depth]);
            (w, Some(&packed_here[..]))
        }
        Weights::Panels(_) => unreachable!("f32 has no such instructions"),
    };
    let panels = panels.map(|panels| RightPanels::new(panels, depth));
    let column = |column: usize| &rows[column * depth..][..depth];
    let block_depth = ROW_VALUES;
    let steps = panel_steps(block_depth.min(depth));
    let panel_sums = TASK_ROWS.min(m.next_multiple_of(ROWS)) * COLUMNS;
    let task = |Scratch { acc, panel: own }: &mut Scratch, tile: Tile<'_, T>| {
        let (rows, columns) = (tile.rows.len(), tile.rows[0].len());
        let multiplier = Multiplier::new(instructions);
        for k in (0..depth).step_by(block_depth) {
            let block_depth = block_depth.min(depth - k);
            let left = left.at((tile.row, rows.div_ceil(ROWS)), k / DEPTH);
            for (i, acc) in acc.chunks_mut(panel_sums).take(columns.div_ceil(COLUMNS)).enumerate() {
                let first = tile.column + i * COLUMNS;
                let right = match &panels {
                    Some(panels) => panels.at(first, k / DEPTH, block_depth.div_ceil(DEPTH)),
                    None => {
                        let panel_columns = COLUMNS.min(n - first);
                        let packed = &mut own[..panel_len(block_depth)];
                        pack_panel(
                            (panel_columns, block_depth),
                            |c| &column(first + c)[k..][..block_depth],
                            packed,
                        );
                        panel(packed, &steps[..block_depth.div_ceil(DEPTH)])
                    }
                };
                multiplier.multiply(left, right, acc, COLUMNS, k > 0);
            }
        }
        let mut lines = tile.rows;
        for (i, acc) in acc.chunks_mut(panel_sums).take(columns.div_ceil(COLUMNS)).enumerate() {
            let acc = &mut acc[..rows * COLUMNS];
            epilogue(acc, COLUMNS, tile.column + i * COLUMNS);
            for (line, sums) in lines.iter_mut().zip(acc.chunks(COLUMNS)) {
                let line = &mut line[i * COLUMNS..columns.min((i + 1) * COLUMNS)];
                T::store(&sums[..line.len()], line);
            }
        }
    };
    let scratch = || Scratch {
        acc: vec![0.0; TASK_COLUMNS / COLUMNS * panel_sums],
        panel: vec![0; panel_len(block_depth.min(depth))],
    };
    tiles(out, (m, n), (TASK_ROWS, TASK_COLUMNS)).into_par_iter().for_each_init(scratch, task);
}

struct Scratch {
    /// `[panels, rows, 32]`
    acc: Vec<f32>,
    /// One panel, where each task packs its own
    panel: Vec<u32>,
}
