//! Packing the rows that a product broadcasts, six together, so that a register tile reads one run of floats.

use super::element::Element;
use super::panel::TILE_ROWS;
use super::vectorized;
use std::ops::Range;

/// Depth packed at once, in the first-level cache.
const STEP: usize = 256;
/// Columns that are shuffled in registers.
const LANES: usize = 16;

/// Floats that `rows` rows of `depth` take.
pub(crate) fn grouped_len(rows: usize, depth: usize) -> usize {
    rows.next_multiple_of(TILE_ROWS) * depth
}

/// Packs `rows` lines, `steps` of each, into `out` `[rows / 6, steps, 6]`, whose last group is whole; what it has beyond
/// the last row stays as it was.
pub(crate) fn group<'a, T: Element>(
    line: impl Fn(usize) -> &'a [T],
    (rows, steps): (usize, Range<usize>),
    out: &mut [f32],
) {
    let mut lines = [0f32; TILE_ROWS * STEP];
    let depth = steps.len();
    for (first, out) in (0..rows).step_by(TILE_ROWS).zip(out.chunks_exact_mut(TILE_ROWS * depth)) {
        for k in (0..depth).step_by(STEP) {
            let count = STEP.min(depth - k);
            for (r, out) in lines.chunks_exact_mut(STEP).enumerate().take(rows - first) {
                T::load(&line(first + r)[steps.start + k..][..count], &mut out[..count]);
            }
            interleave(&lines, &mut out[k * TILE_ROWS..][..count * TILE_ROWS]);
        }
    }
}

vectorized! {
    /// `out[k][r] = lines[r][k]` for `lines` `[6, STEP]` and as many k as `out` has.
    fn interleave<'a>(lines: &'a [f32], out: &'a mut [f32]) {
        let lines: [&[f32]; TILE_ROWS] = std::array::from_fn(|r| &lines[r * STEP..][..STEP]);
        let (blocks, rest) = out.as_chunks_mut::<{ LANES * TILE_ROWS }>();
        let whole = blocks.len() * LANES;
        for (k, block) in (0..STEP).step_by(LANES).zip(blocks) {
            for (r, line) in lines.iter().enumerate() {
                let line = &line[k..][..LANES];
                for (j, value) in line.iter().enumerate() {
                    block[j * TILE_ROWS + r] = *value;
                }
            }
        }
        for (k, out) in rest.chunks_exact_mut(TILE_ROWS).enumerate() {
            for (out, line) in out.iter_mut().zip(&lines) {
                *out = line[whole + k];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_packed() {
        for (rows, depth, steps) in [(1, 1, 0..1), (6, 16, 0..16), (7, 40, 3..36), (13, 600, 0..600)] {
            let data: Vec<f32> = (0..rows * depth).map(|i| i as f32).collect();
            let mut out = vec![-1f32; grouped_len(rows, steps.len())];
            group(|row| &data[row * depth..][..depth], (rows, steps.clone()), &mut out);
            for row in 0..rows {
                for k in steps.clone() {
                    let group = row / TILE_ROWS * steps.len() + k - steps.start;
                    let found = out[group * TILE_ROWS + row % TILE_ROWS];
                    assert_eq!(found, data[row * depth + k], "{rows} rows, {steps:?} of {depth}: {row}, {k}");
                }
            }
        }
    }
}
