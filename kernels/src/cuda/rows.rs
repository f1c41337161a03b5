//! How the kernels over rows are launched: which threads take a row, and whether 16-byte words may be used
//! (`cuda/rows.cuh` walks the rows).

use super::arguments::{MAX_TEAM_WARPS, RowSizes, SLOTS, WARP, WORD_BYTES};
use super::operand::{Rows, size};
use candle_core::{DType, Result, Tensor, bail};
use cudarc::driver::LaunchConfig;

/// Warps of a block if a row has one; a longer row has a block to itself, so that only its own warps wait for it.
const BLOCK_WARPS: u32 = 4;

/// The sizes that every kernel over rows takes, and the grid.
pub(crate) struct RowLaunch {
    /// The warps of a row depend on its width and type alone, and with them the order of every sum.
    pub(super) sizes: RowSizes,
    pub(super) config: LaunchConfig,
}

impl RowLaunch {
    /// For the rows of `x`; `others` are the other inputs, in rows of the same width. Outputs are contiguous.
    pub(crate) fn new(op: &str, dtype: DType, x: &Rows, others: &[&Rows]) -> Result<Self> {
        let total = x.batch as usize * x.rows as usize;
        if total == 0 || x.width == 0 {
            bail!("{op}: nothing to do: {} x {} rows of {}", x.batch, x.rows, x.width)
        }
        // Column numbers are 32 bits and go beyond the row by up to a step.
        if x.width > 1 << 30 {
            bail!("{op}: {} elements are too many for a row", x.width)
        }
        let vectors = x.width.div_ceil(WORD_BYTES / dtype.size_in_bytes() as u32);
        let needed = vectors.div_ceil(WARP * SLOTS);
        let words = std::iter::once(x).chain(others.iter().copied()).all(|rows| in_words(rows, dtype));
        let warps = needed.min(MAX_TEAM_WARPS);
        let block_rows = if warps == 1 { BLOCK_WARPS } else { 1 };
        let total = size(op, total)?;
        let blocks = total.div_ceil(block_rows);
        if blocks > i32::MAX as u32 {
            bail!("{op}: {total} rows are more than a launch takes")
        }
        Ok(Self {
            sizes: RowSizes {
                total,
                rows: x.rows,
                width: x.width,
                warps,
                fast: (words && needed <= MAX_TEAM_WARPS).into(),
            },
            config: LaunchConfig {
                grid_dim: (blocks, 1, 1),
                block_dim: (warps * block_rows * WARP, 1, 1),
                shared_mem_bytes: 0,
            },
        })
    }
}

/// Whether every row begins at a multiple of 16 bytes and is whole 16-byte words.
pub(crate) fn in_words(rows: &Rows, dtype: DType) -> bool {
    let bytes = dtype.size_in_bytes();
    let whole = |elements: i64| (elements as usize * bytes).is_multiple_of(WORD_BYTES as usize);
    rows.pointer.is_multiple_of(u64::from(WORD_BYTES))
        && whole(i64::from(rows.width))
        && (rows.batch <= 1 || whole(rows.batch_stride))
        && (rows.rows <= 1 || whole(rows.row_stride))
}

/// Row `index` of each batch element.
pub(crate) fn row_of_each(rows: &Rows, index: usize, dtype: DType) -> Rows {
    let offset = index * rows.row_stride as usize * dtype.size_in_bytes();
    Rows { pointer: rows.pointer + offset as u64, rows: 1, ..*rows }
}

/// Refuses tensors on different devices: an address of one GPU means nothing on another.
pub(crate) fn same_device(op: &str, x: &Tensor, others: &[&Tensor]) -> Result<()> {
    match others.iter().find(|other| !other.device().same_device(x.device())) {
        Some(other) => bail!("{op}: tensors on {:?} and {:?}", x.device(), other.device()),
        None => Ok(()),
    }
}
