//! Views of candle storage as rows, and of an output as disjoint tiles that threads may fill.

use super::element::Element;
use candle_core::{CpuStorage, Layout, Result, bail};

/// A tensor `[rows, width]` or `[batch, rows, width]` whose last stride is 1.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T> {
    data: &'a [T],
    pub(crate) batch: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    batch_stride: usize,
    row_stride: usize,
}

impl<'a, T: Element> Rows<'a, T> {
    /// Views a tensor of rank 2 or 3 as it lies, or a contiguous one of another rank as `[rows, width]`.
    pub(crate) fn new(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let data = &storage.as_slice::<T>()?[layout.start_offset()..];
        let view = match (layout.dims(), layout.stride()) {
            (&[rows, width], &[row_stride, 1]) => {
                Self { data, batch: 1, rows, width, batch_stride: 0, row_stride }
            }
            (&[batch, rows, width], &[batch_stride, row_stride, 1]) => {
                Self { data, batch, rows, width, batch_stride, row_stride }
            }
            (&[.., width], _) if layout.is_contiguous() => {
                let rows = layout.shape().elem_count() / width.max(1);
                Self { data, batch: 1, rows, width, batch_stride: 0, row_stride: width }
            }
            (dims, stride) => {
                bail!("{op}: expected rows with last stride 1, got {dims:?} strides {stride:?}")
            }
        };
        Ok(view)
    }

    /// Row `row` of batch element `batch`.
    #[inline]
    pub(crate) fn row(&self, batch: usize, row: usize) -> &'a [T] {
        &self.data[batch * self.batch_stride + row * self.row_stride..][..self.width]
    }
}

/// The elements of a contiguous tensor.
pub(crate) fn contiguous<'a, T: Element>(
    op: &str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => {
            bail!("{op}: expected a contiguous tensor, got {:?} strides {:?}", layout.dims(), layout.stride())
        }
    }
}

/// A rectangle of an output matrix, as one slice a row.
pub(crate) struct Tile<'a, T> {
    pub(crate) batch: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) rows: Vec<&'a mut [T]>,
}

/// Cuts `[batch, rows, width]` into tiles of at most `tile_rows` by `tile_width`, columns outermost.
///
/// The slices are disjoint by construction, which is what lets threads write columns without `unsafe`;
/// making one costs about a nanosecond, so keep them some dozens of elements wide.
pub(crate) fn tiles<T>(
    data: &mut [T],
    (rows, width): (usize, usize),
    (tile_rows, tile_width): (usize, usize),
) -> Vec<Tile<'_, T>> {
    let mut all = Vec::new();
    if rows == 0 || width == 0 {
        return all;
    }
    let (down, across) = (rows.div_ceil(tile_rows), width.div_ceil(tile_width));
    for (batch, matrix) in data.chunks_mut(rows * width).enumerate() {
        let first = all.len();
        for column in 0..across {
            for row in 0..down {
                let (row, column) = (row * tile_rows, column * tile_width);
                all.push(Tile { batch, row, column, rows: Vec::with_capacity(tile_rows.min(rows - row)) });
            }
        }
        for (row, line) in matrix.chunks_mut(width).enumerate() {
            for (column, segment) in line.chunks_mut(tile_width).enumerate() {
                all[first + column * down + row / tile_rows].rows.push(segment);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_each_element_once() {
        let (batch, rows, width) = (2, 7, 10);
        let mut data = vec![0usize; batch * rows * width];
        for tile in tiles(&mut data, (rows, width), (3, 4)) {
            for (r, segment) in tile.rows.into_iter().enumerate() {
                for (c, v) in segment.iter_mut().enumerate() {
                    *v += 1 + (tile.batch * rows + tile.row + r) * width + tile.column + c;
                }
            }
        }
        let expected: Vec<usize> = (1..=batch * rows * width).collect();
        assert_eq!(data, expected);
    }
}
