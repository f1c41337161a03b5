//! Matrix product of many rows by one panel of 64 (or 16) columns: the inner loop of every heavy CPU op.
//!
//! `acc[r][c] (+)= sum over k of left(r, k) * right(k, c)`, with `c` along the vector lanes and `left`
//! broadcast. Six rows by four 16-lane vectors fill 24 of AVX-512's 32 registers; the same loop
//! runs as 6x2 vectors on AVX2. Each element is one chain of fused multiply-adds in the order of `k`,
//! so a row's bits depend neither on the other rows nor on the number of threads.

use super::isa::dispatch;
use pulp::{Simd, WithSimd};

/// Columns of a panel.
pub(crate) const PANEL: usize = 64;

/// Columns that a [`Gather`] panel keeps together.
pub(crate) const CHUNK: usize = 16;

/// Rows of a register tile.
pub(crate) const TILE_ROWS: usize = 6;

/// Steps of the depth by which a streamed panel is fetched ahead.
const AHEAD: usize = 8;

/// The broadcast operand: rows by depth.
pub(crate) trait Left: Copy {
    /// `N` rows of it.
    type Window<const N: usize>: Copy;

    /// The rows from `row` on, `depth` deep.
    fn window<const N: usize>(self, row: usize, depth: usize) -> Self::Window<N>;

    /// `[left(row, k), .., left(row + N - 1, k)]`
    fn at<const N: usize>(window: &Self::Window<N>, k: usize) -> [f32; N];
}

/// Rows that lie along the depth: `left(r, k) = data[r * stride + k]`.
#[derive(Clone, Copy)]
pub(crate) struct ByRow<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
}

impl<'a> Left for ByRow<'a> {
    type Window<const N: usize> = [&'a [f32]; N];

    #[inline(always)]
    fn window<const N: usize>(self, row: usize, depth: usize) -> [&'a [f32]; N] {
        let mut rows = [self.data; N];
        for (r, slice) in rows.iter_mut().enumerate() {
            *slice = &self.data[(row + r) * self.stride..][..depth];
        }
        rows
    }

    #[inline(always)]
    fn at<const N: usize>(rows: &[&'a [f32]; N], k: usize) -> [f32; N] {
        let mut values = [0.0; N];
        for (value, row) in values.iter_mut().zip(rows) {
            *value = row[k];
        }
        values
    }
}

/// Rows as [`group`](super::group::group) packs them, `[rows / 6, depth, 6]`: a tile reads one run of floats.
#[derive(Clone, Copy)]
pub(crate) struct Grouped<'a>(pub(crate) &'a [f32]);

impl<'a> Left for Grouped<'a> {
    type Window<const N: usize> = &'a [[f32; TILE_ROWS]];

    #[inline(always)]
    fn window<const N: usize>(self, row: usize, depth: usize) -> &'a [[f32; TILE_ROWS]] {
        &self.0[row * depth..].as_chunks().0[..depth]
    }

    #[inline(always)]
    fn at<const N: usize>(window: &&'a [[f32; TILE_ROWS]], k: usize) -> [f32; N] {
        let mut values = [0.0; N];
        values.copy_from_slice(&window[k][..N]);
        values
    }
}

/// Rows that lie across the depth: `left(r, k) = data[k * stride + r]`.
#[derive(Clone, Copy)]
pub(crate) struct ByDepth<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
}

impl<'a> Left for ByDepth<'a> {
    type Window<const N: usize> = ByDepth<'a>;

    #[inline(always)]
    fn window<const N: usize>(self, row: usize, _depth: usize) -> ByDepth<'a> {
        ByDepth { data: &self.data[row..], stride: self.stride }
    }

    #[inline(always)]
    fn at<const N: usize>(window: &ByDepth<'a>, k: usize) -> [f32; N] {
        let mut values = [0.0; N];
        values.copy_from_slice(&window.data[k * window.stride..][..N]);
        values
    }
}

/// The vector operand: depth by columns.
pub(crate) trait Right: Copy {
    /// Its columns: 64 or 16.
    const WIDTH: usize;

    /// The same, `depth` deep: what is read in a loop over the depth is within it.
    #[inline(always)]
    fn to_depth(self, _depth: usize) -> Self {
        self
    }

    /// The `lanes` columns from `column` on, at depth `k`; they never straddle a chunk.
    fn lanes(&self, k: usize, column: usize, lanes: usize) -> &[f32];

    /// Fetches column `column` at depth `k`, which may be beyond the depth, into the first-level cache, where that
    /// cannot hold the panel.
    #[inline(always)]
    fn fetch(&self, _k: usize, _column: usize) {}
}

/// A panel that lies in one piece, `right(k, c) = data[k * WIDTH + c]`; `STREAMED` from the second-level cache, or in
/// the first.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a, const WIDTH: usize, const STREAMED: bool = false>(&'a [[f32; WIDTH]]);

impl<'a, const WIDTH: usize, const STREAMED: bool> Packed<'a, WIDTH, STREAMED> {
    /// The panel at the start of `data`.
    pub(crate) fn new(data: &'a [f32]) -> Self {
        Self(data.as_chunks().0)
    }
}

impl<const WIDTH: usize, const STREAMED: bool> Right for Packed<'_, WIDTH, STREAMED> {
    const WIDTH: usize = WIDTH;

    #[inline(always)]
    fn to_depth(self, depth: usize) -> Self {
        Self(&self.0[..depth])
    }

    #[inline(always)]
    fn lanes(&self, k: usize, column: usize, lanes: usize) -> &[f32] {
        &self.0[k][column..][..lanes]
    }

    #[inline(always)]
    fn fetch(&self, k: usize, column: usize) {
        if STREAMED {
            prefetch(self.0.as_ptr().wrapping_add(k).cast::<f32>().wrapping_add(column));
        }
    }
}

/// A panel of four chunks picked from a buffer: `right(k, c) = data[chunks[c / 16] + steps[k] + c % 16]`.
#[derive(Clone, Copy)]
pub(crate) struct Gather<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) chunks: [usize; PANEL / CHUNK],
    pub(crate) steps: &'a [usize],
}

impl Right for Gather<'_> {
    const WIDTH: usize = PANEL;

    #[inline(always)]
    fn lanes(&self, k: usize, column: usize, lanes: usize) -> &[f32] {
        &self.data[self.chunks[column / CHUNK] + self.steps[k] + column % CHUNK..][..lanes]
    }
}

/// A panel that is one run of a buffer at every depth: `right(k, c) = data[steps[k] + c]`.
#[derive(Clone, Copy)]
pub(crate) struct Shifted<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) steps: &'a [usize],
}

impl Right for Shifted<'_> {
    const WIDTH: usize = PANEL;

    #[inline(always)]
    fn lanes(&self, k: usize, column: usize, lanes: usize) -> &[f32] {
        &self.data[self.steps[k]..][..PANEL][column..][..lanes]
    }
}

/// Asks for the cache line of an address, which need not be one of this process.
#[inline(always)]
fn prefetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "an instruction that takes an address")]
    // SAFETY: it reads nothing that the program sees, and does not fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Multiplies `rows` rows of `left` by `right` into `acc` `[rows, WIDTH]`, on top of it if `add`.
pub(crate) fn multiply<L: Left, R: Right>(
    (left, rows): (L, usize),
    right: R,
    depth: usize,
    acc: &mut [f32],
    add: bool,
) {
    let acc = &mut acc[..rows * R::WIDTH];
    dispatch(Product { left, right, depth, acc, add });
}

struct Product<'a, L, R> {
    left: L,
    right: R,
    depth: usize,
    acc: &'a mut [f32],
    add: bool,
}

impl<L: Left, R: Right> WithSimd for Product<'_, L, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::F32_LANES, R::WIDTH) {
            (16, CHUNK) => self.run::<S, 1>(simd),
            (16, _) => self.run::<S, 4>(simd),
            (8, _) => self.run::<S, 2>(simd),
            (4, _) => self.run::<S, 4>(simd),
            _ => self.run::<S, 1>(simd),
        }
    }
}

impl<L: Left, R: Right> Product<'_, L, R> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(mut self, simd: S) {
        let rows = self.acc.len() / R::WIDTH;
        for column in (0..R::WIDTH).step_by(VECTORS * S::F32_LANES) {
            let mut row = 0;
            while row < rows {
                match rows - row {
                    1 => self.tile::<S, VECTORS, 1>(simd, row, column),
                    2 => self.tile::<S, VECTORS, 2>(simd, row, column),
                    3 => self.tile::<S, VECTORS, 3>(simd, row, column),
                    4 => self.tile::<S, VECTORS, 4>(simd, row, column),
                    5 => self.tile::<S, VECTORS, 5>(simd, row, column),
                    _ => self.tile::<S, VECTORS, TILE_ROWS>(simd, row, column),
                }
                row += TILE_ROWS;
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const VECTORS: usize, const ROWS: usize>(&mut self, simd: S, row: usize, column: usize) {
        let acc = &mut self.acc[row * R::WIDTH..][..ROWS * R::WIDTH];
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        if self.add {
            for (r, sums) in sums.iter_mut().enumerate() {
                let (saved, _) = S::as_simd_f32s(&acc[r * R::WIDTH + column..]);
                sums.copy_from_slice(&saved[..VECTORS]);
            }
        }
        let left = self.left.window::<ROWS>(row, self.depth);
        let right = self.right.to_depth(self.depth);
        for k in 0..self.depth {
            let mut vectors = [simd.splat_f32s(0.0); VECTORS];
            for (v, vector) in vectors.iter_mut().enumerate() {
                let lanes = right.lanes(k, column + v * S::F32_LANES, S::F32_LANES);
                *vector = S::as_simd_f32s(lanes).0[0];
                right.fetch(k + AHEAD, column + v * S::F32_LANES);
            }
            for (sums, value) in sums.iter_mut().zip(L::at::<ROWS>(&left, k)) {
                let value = simd.splat_f32s(value);
                for (sum, vector) in sums.iter_mut().zip(vectors) {
                    *sum = simd.mul_add_e_f32s(value, vector, *sum);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let (saved, _) = S::as_mut_simd_f32s(&mut acc[r * R::WIDTH + column..]);
            saved[..VECTORS].copy_from_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 8) as f32 / 16_777_216.0 - 0.5)
            .collect()
    }

    /// `[rows, depth]` as [`Grouped`] reads it.
    fn packed(rows: &[f32], depth: usize) -> Vec<f32> {
        let mut packed = vec![0f32; (rows.len() / depth).next_multiple_of(TILE_ROWS) * depth];
        for (i, value) in rows.iter().enumerate() {
            let (row, k) = (i / depth, i % depth);
            packed[(row / TILE_ROWS * depth + k) * TILE_ROWS + row % TILE_ROWS] = *value;
        }
        packed
    }

    /// Exact equality: a chain of fused multiply-adds has one answer.
    #[test]
    fn each_element_is_one_chain_of_fused_steps() {
        for rows in 1..=14 {
            for depth in [1, 2, 7, 64, 300] {
                let left = numbers(rows * depth, 1);
                let right = numbers(depth * PANEL, 2);
                let start = numbers(rows * PANEL, 3);
                let across: Vec<f32> =
                    (0..depth * rows).map(|i| left[(i % rows) * depth + i / rows]).collect();
                let steps: Vec<usize> = (0..depth).map(|k| k * PANEL).collect();
                let gather = Gather { data: &right, chunks: [0, 16, 32, 48], steps: &steps };
                let packed = packed(&left, depth);
                let grouped = Grouped(&packed);
                let by_row = ByRow { data: &left, stride: depth };
                let mut results = vec![start.clone(); 5];
                multiply((by_row, rows), Packed::<PANEL>::new(&right), depth, &mut results[4], true);
                multiply(
                    (grouped, rows),
                    Shifted { data: &right, steps: &steps },
                    depth,
                    &mut results[3],
                    true,
                );
                multiply((grouped, rows), Packed::<PANEL, true>::new(&right), depth, &mut results[0], true);
                multiply(
                    (ByDepth { data: &across, stride: rows }, rows),
                    Packed::<PANEL>::new(&right),
                    depth,
                    &mut results[1],
                    true,
                );
                multiply((grouped, rows), gather, depth, &mut results[2], true);
                for r in 0..rows {
                    for c in 0..PANEL {
                        let exact = (0..depth).fold(start[r * PANEL + c], |sum, k| {
                            left[r * depth + k].mul_add(right[k * PANEL + c], sum)
                        });
                        for result in &results {
                            assert_eq!(result[r * PANEL + c], exact, "rows {rows} depth {depth} at {r},{c}");
                        }
                    }
                }
                let sixteen = |x: &[f32]| -> Vec<f32> {
                    x.chunks(PANEL).flat_map(|line| line[..CHUNK].to_vec()).collect()
                };
                let (narrow, mut acc) = (sixteen(&right), sixteen(&start));
                multiply((grouped, rows), Packed::<CHUNK>::new(&narrow), depth, &mut acc, true);
                assert_eq!(acc, sixteen(&results[0]), "16 columns, rows {rows} depth {depth}");
            }
        }
    }

    /// The narrower machines' loops, wherever the tests run; without fused steps each rounds once more.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_instruction_set_agrees() {
        let (rows, depth) = (14, 40);
        let (left, right) = (numbers(rows * depth, 1), numbers(depth * PANEL, 2));
        let packed = packed(&left, depth);
        let grouped = Grouped(&packed);
        let mut widest = vec![0f32; rows * PANEL];
        multiply((grouped, rows), Packed::<PANEL>::new(&right), depth, &mut widest, false);
        let mut results = [widest.clone(), widest.clone()];
        let [scalar, narrower] = results.each_mut().map(|acc| {
            acc.fill(0.0);
            Product { left: grouped, right: Packed::<PANEL>::new(&right), depth, acc, add: false }
        });
        pulp::Scalar.vectorize(scalar);
        let avx2 = pulp::x86::V3::try_new();
        if let Some(avx2) = avx2 {
            Simd::vectorize(avx2, narrower);
        }
        let [scalar, narrower] = results;
        for (a, b) in widest.iter().zip(&scalar) {
            assert!((a - b).abs() <= depth as f32 * f32::EPSILON, "{a} {b}");
        }
        if avx2.is_some() {
            assert_eq!(narrower, widest);
        }
    }
}
