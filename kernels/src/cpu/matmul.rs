//! `x w^T` over all threads, with an epilogue on each block of results while it is in cache.
//!
//! Either side may be the panel, whose values lie along the vector lanes and must be packed for that; the
//! other is broadcast row by row. Packing weights costs N * K moves, unless they have been packed before; packing
//! rows of x costs M * K and M * N to turn the result round, so few rows are packed themselves and the weights are
//! only streamed. All ways are the same chain of fused multiply-adds for each result: the choice never shows in
//! the bits. bf16 is multiplied in blocks where the processor has instructions for them.

mod in_blocks;

use super::blocks::{Instructions, pack_panels};
use super::element::Element;
use super::group::{group, grouped_len};
use super::panel::{CHUNK, Grouped, PANEL, Packed as PackedPanel, multiply};
use super::transpose::transpose;
use super::view::{Rows, Tile, tiles};
use candle_core::DType;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of the broadcast operand for which a block of sums is made.
const BLOCK_ROWS: usize = 192;
/// Columns of a task when the weights are packed: eight panels share each block of x.
const TASK_COLUMNS: usize = 8 * PANEL;
/// Depth after which sums go back to memory, so that a block of either operand stays in cache.
const BLOCK_DEPTH: usize = 256;
/// Rows of x that may be packed: more would not stay in cache while the weights stream past.
const MAX_PACKED_ROWS: usize = 512;

/// What to do with a finished block `(block, width, column)`: rows of `width` results from output
/// `column` on; the last panel's width may reach beyond the last output.
pub(crate) type Epilogue<'a> = &'a (dyn Fn(&mut [f32], usize, usize) + Sync);

/// The weights of a layer, `[N, K]`.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a, T> {
    Rows(&'a [T]),
    /// As [`pack_weights`] packs them for f32
    Panels(&'a [f32]),
    /// As it packs them for bf16
    Blocks(&'a [u32]),
}

/// Weights that are packed once for many products.
pub(crate) enum Packed {
    Panels(Vec<f32>),
    Blocks(Vec<u32>),
}

/// Packs `w` `[N, K]`; `None` where that would take more memory than the weights: bf16 that is multiplied in f32.
pub(crate) fn pack_weights<T: Element>(w: &[T], (n, depth): (usize, usize)) -> Option<Packed> {
    let row = |row: usize| &w[row * depth..][..depth];
    match (T::DTYPE, Instructions::of::<T>()) {
        (_, Some(_)) => Some(Packed::Blocks(pack_panels((n, depth), row))),
        (DType::F32, None) => Some(Packed::Panels(pack::<T, PANEL>((n, depth), row))),
        _ => None,
    }
}

/// `[B, M, K]` times `w`: `[B, M, N]` with `epilogue` applied. K must not be 0.
pub(crate) fn matmul<T: Element>(
    x: Rows<'_, T>,
    w: Weights<'_, T>,
    n: usize,
    epilogue: Epilogue<'_>,
) -> Vec<T> {
    let (m, k) = (x.batch * x.rows, x.width);
    let mut out = T::zeros(m * n);
    match (Instructions::of::<T>(), w) {
        (Some(instructions), w) => in_blocks::matmul(instructions, x, w, &mut out, n, epilogue),
        (None, Weights::Panels(packed)) => many_rows(x, packed, &mut out, n, epilogue),
        (None, Weights::Rows(w)) if m <= CHUNK || m <= MAX_PACKED_ROWS && m * (k + n) < n * k => {
            few_rows(x, w, &mut out, n, epilogue);
        }
        (None, Weights::Rows(w)) => {
            let packed = pack::<T, PANEL>((n, k), |row| &w[row * k..][..k]);
            many_rows(x, &packed, &mut out, n, epilogue);
        }
        (None, Weights::Blocks(_)) => unreachable!("weights are packed for the instructions in use"),
    }
    out
}

#[derive(Default)]
struct Scratch {
    /// `[panels, BLOCK_ROWS, columns of a panel]`
    acc: Vec<f32>,
    /// `[BLOCK_ROWS / 6, BLOCK_DEPTH, 6]` of the broadcast operand
    block: Vec<f32>,
    /// `[columns of a panel, BLOCK_ROWS]`
    turned: Vec<f32>,
}

/// `rows` lines, `steps` of each, packed into `block`.
fn grouped<'a, 'b, T: Element>(
    line: impl Fn(usize) -> &'a [T],
    (rows, steps): (usize, Range<usize>),
    block: &'b mut Vec<f32>,
) -> Grouped<'b> {
    block.resize(grouped_len(rows, steps.len()), 0.0);
    group(line, (rows, steps), block);
    Grouped(block)
}

/// By packed weights `[N / 64, K, 64]`; a task is a block of rows by some panels.
fn many_rows<T: Element>(x: Rows<'_, T>, packed: &[f32], out: &mut [T], n: usize, epilogue: Epilogue<'_>) {
    let (m, depth) = (x.batch * x.rows, x.width);
    // Packed once where several tasks read a block, else by its task.
    let blocks = (n > TASK_COLUMNS).then(|| row_blocks(x));
    let task = |scratch: &mut Scratch, tile: Tile<'_, T>| {
        let (rows, columns) = (tile.rows.len(), tile.rows[0].len());
        let panels = columns.div_ceil(PANEL);
        scratch.acc.resize(BLOCK_ROWS * TASK_COLUMNS, 0.0);
        for k in (0..depth).step_by(BLOCK_DEPTH) {
            let steps = BLOCK_DEPTH.min(depth - k);
            let left = match &blocks {
                Some(blocks) => Grouped(&blocks[tile.row * depth + grouped_len(rows, k)..]),
                None => grouped(|row| row_of(x, tile.row + row), (rows, k..k + steps), &mut scratch.block),
            };
            for panel in 0..panels {
                let right = PackedPanel::<PANEL, true>::new(
                    &packed[(tile.column + panel * PANEL) * depth + k * PANEL..],
                );
                let acc = &mut scratch.acc[panel * BLOCK_ROWS * PANEL..];
                multiply((left, rows), right, steps, acc, k > 0);
            }
        }
        let blocks = scratch.acc.chunks_mut(BLOCK_ROWS * PANEL).take(panels);
        for (panel, block) in blocks.enumerate() {
            epilogue(&mut block[..rows * PANEL], PANEL, tile.column + panel * PANEL);
        }
        // Row by row: neighbouring panels end up in neighbouring cache lines.
        for (row, mut line) in tile.rows.into_iter().enumerate() {
            for block in scratch.acc.chunks(BLOCK_ROWS * PANEL).take(panels) {
                let (part, rest) = line.split_at_mut(PANEL.min(line.len()));
                T::store(&block[row * PANEL..][..part.len()], part);
                line = rest;
            }
        }
    };
    tiles(out, (m, n), (BLOCK_ROWS, TASK_COLUMNS)).into_par_iter().for_each_init(Scratch::default, task);
}

/// All rows of x, each [`BLOCK_ROWS`] of them as blocks of [`BLOCK_DEPTH`] of the depth that [`Grouped`] reads.
fn row_blocks<T: Element>(x: Rows<'_, T>) -> Vec<f32> {
    let (m, depth) = (x.batch * x.rows, x.width);
    let mut blocks = f32::zeros(grouped_len(m, depth));
    blocks.par_chunks_mut(BLOCK_ROWS * depth).enumerate().for_each(|(i, out)| {
        let (first, rows) = (i * BLOCK_ROWS, out.len() / depth);
        for (k, out) in (0..depth).step_by(BLOCK_DEPTH).zip(out.chunks_mut(rows * BLOCK_DEPTH)) {
            let steps = k..k + out.len() / rows;
            group(|row| row_of(x, first + row), (rows.min(m - first), steps), out);
        }
    });
    blocks
}

/// Row `row` of all batches together.
fn row_of<'a, T: Element>(x: Rows<'a, T>, row: usize) -> &'a [T] {
    x.row(row / x.rows, row % x.rows)
}

/// Packs x; a task is all rows by a block of columns, whose weights stream past.
fn few_rows<T: Element>(x: Rows<'_, T>, w: &[T], out: &mut [T], n: usize, epilogue: Epilogue<'_>) {
    let (m, depth) = (x.batch * x.rows, x.width);
    // Whole panels, then what is left in panels of 16 where those are fewer lanes.
    let wide = if m % PANEL > 2 * CHUNK { m } else { m / PANEL * PANEL };
    let row = |row: usize| row_of(x, row);
    let wide_panels = pack::<T, PANEL>((wide, depth), row);
    let narrow_panels = pack::<T, CHUNK>((m - wide, depth), |r| row(wide + r));
    let task = |scratch: &mut Scratch, tile: Tile<'_, T>| {
        let columns = tile.rows[0].len();
        scratch.acc.resize(m.next_multiple_of(PANEL) * BLOCK_ROWS, 0.0);
        let (wide_acc, narrow_acc) = scratch.acc.split_at_mut(wide.next_multiple_of(PANEL) * BLOCK_ROWS);
        for k in (0..depth).step_by(BLOCK_DEPTH) {
            let steps = BLOCK_DEPTH.min(depth - k);
            let line = |row| &w[(tile.column + row) * depth..][..depth];
            let left = (grouped(line, (columns, k..k + steps), &mut scratch.block), columns);
            each_panel::<PANEL>(left, &wide_panels, (depth, k, steps), wide_acc);
            each_panel::<CHUNK>(left, &narrow_panels, (depth, k, steps), narrow_acc);
        }
        let mut lines = tile.rows;
        let (wide_lines, narrow_lines) = lines.split_at_mut(wide);
        store_turned::<T, PANEL>(wide_acc, wide_lines, tile.column, epilogue, &mut scratch.turned);
        store_turned::<T, CHUNK>(narrow_acc, narrow_lines, tile.column, epilogue, &mut scratch.turned);
    };
    tiles(out, (m, n), (m, BLOCK_ROWS)).into_par_iter().for_each_init(Scratch::default, task);
}

/// Multiplies one block by each panel of `packed` `[panels, depth, WIDTH]` into `acc`
/// `[panels, BLOCK_ROWS, WIDTH]`.
fn each_panel<const WIDTH: usize>(
    left: (Grouped<'_>, usize),
    packed: &[f32],
    (depth, k, steps): (usize, usize, usize),
    acc: &mut [f32],
) {
    for (panel, acc) in packed.chunks(depth * WIDTH).zip(acc.chunks_mut(BLOCK_ROWS * WIDTH)) {
        multiply(left, PackedPanel::<WIDTH, true>::new(&panel[k * WIDTH..]), steps, acc, k > 0);
    }
}

/// Turns `acc` `[panels, columns, WIDTH]` round, finishes it and stores it to the rows `lines`.
fn store_turned<T: Element, const WIDTH: usize>(
    acc: &[f32],
    lines: &mut [&mut [T]],
    column: usize,
    epilogue: Epilogue<'_>,
    turned: &mut Vec<f32>,
) {
    for (lines, acc) in lines.chunks_mut(WIDTH).zip(acc.chunks(BLOCK_ROWS * WIDTH)) {
        let columns = lines[0].len();
        turned.resize(lines.len() * columns, 0.0);
        transpose(acc, WIDTH, (columns, lines.len()), turned, columns);
        epilogue(turned, columns, column);
        for (line, sums) in lines.iter_mut().zip(turned.chunks(columns)) {
            T::store(sums, line);
        }
    }
}

/// Turns rows of `depth` into panels `[rows / WIDTH, depth, WIDTH]`, zeros beyond the last row.
fn pack<'a, T: Element, const WIDTH: usize>(
    (rows, depth): (usize, usize),
    row: impl Fn(usize) -> &'a [T] + Sync,
) -> Vec<f32> {
    /// Depth packed at once: its lines and their part of the panel fit the first-level cache.
    const STEP: usize = 64;
    let mut panels = vec![0f32; rows.next_multiple_of(WIDTH) * depth];
    panels.par_chunks_mut(WIDTH * depth).enumerate().for_each(|(panel, out)| {
        let first = panel * WIDTH;
        let lanes = WIDTH.min(rows - first);
        let mut lines = vec![0f32; WIDTH * STEP];
        for k in (0..depth).step_by(STEP) {
            let steps = STEP.min(depth - k);
            for (lane, line) in lines.chunks_mut(STEP).take(lanes).enumerate() {
                T::load(&row(first + lane)[k..][..steps], &mut line[..steps]);
            }
            transpose(&lines, STEP, (lanes, steps), &mut out[k * WIDTH..], WIDTH);
        }
    });
    panels
}
