//! Products of bf16 with f32 sums, for processors with instructions for them: layouts, and the choice of instructions.
//!
//! The left operand lies in blocks of 16 rows by 32 of the depth, a row after the other. The right one lies in pairs of the
//! depth: a line of 16 pairs holds two values of each column next to each other. So AMX reads its tiles, and the same layout
//! gives `vdpbf16ps` its operands.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;

use super::element::Element;
use super::isa::Isa;
use candle_core::DType;
pub(crate) use pack::{LeftBlocks, RightPanels, pack_panel, pack_panels, panel, panel_len, panel_steps};

/// Rows of a block of the left operand.
pub(crate) const ROWS: usize = 16;
/// Depth of a block of either operand.
pub(crate) const DEPTH: usize = 32;
/// Columns of a panel of the right operand.
pub(crate) const COLUMNS: usize = 32;
/// Lines of a block of the right operand, and pairs of a line of the left one.
const PAIRS: usize = DEPTH / 2;
/// bf16 values of a block of the left operand.
const LEFT_BLOCK: usize = ROWS * DEPTH;

/// The instructions of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// AMX tiles.
    Amx,
    /// `vdpbf16ps`.
    Avx512Bf16,
}

impl Instructions {
    /// Those for products of `T`, if it is bf16 and this processor has any.
    pub(crate) fn of<T: Element>() -> Option<Self> {
        match Isa::in_use() {
            Isa::Amx if T::DTYPE == DType::BF16 => Some(Self::Amx),
            Isa::Avx512Bf16 if T::DTYPE == DType::BF16 => Some(Self::Avx512Bf16),
            _ => None,
        }
    }
}

/// The left operand: `row_blocks` blocks of 16 rows, each `[depth block][16][32]`, `stride` values apart.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [u16],
    pub(crate) row_blocks: usize,
    pub(crate) stride: usize,
}

/// 32 columns of the right operand. Line `i` of block `k` begins at pair `steps[k] + i * line_stride` of `data`, and holds
/// 32 pairs.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) data: &'a [u32],
    pub(crate) steps: &'a [usize],
    pub(crate) line_stride: usize,
}

impl Right<'_> {
    /// The pairs from the first to the last that is read.
    fn extent(&self) -> usize {
        let last = self.steps.iter().max().copied().unwrap_or_default();
        last + (PAIRS - 1) * self.line_stride + COLUMNS
    }
}

/// A thread's use of the instructions: AMX needs its tiles configured, and gives them back in the end.
pub(crate) struct Multiplier {
    instructions: Instructions,
    #[cfg(target_arch = "x86_64")]
    _tiles: Option<amx::Tiles>,
}

impl Multiplier {
    pub(crate) fn new(instructions: Instructions) -> Self {
        Self {
            instructions,
            #[cfg(target_arch = "x86_64")]
            _tiles: (instructions == Instructions::Amx).then(amx::Tiles::configure),
        }
    }

    /// `acc [rows, stride] (+)= left * right`, 32 columns wide.
    ///
    /// The depth is that of `right.steps`. A row's bits depend neither on the other rows nor on the other columns.
    #[inline]
    pub(crate) fn multiply(
        &self,
        left: Left<'_>,
        right: Right<'_>,
        acc: &mut [f32],
        stride: usize,
        add: bool,
    ) {
        let block = right.steps.len() * LEFT_BLOCK;
        assert!(!right.steps.is_empty(), "depth");
        assert!(
            left.row_blocks > 0 && left.data.len() >= (left.row_blocks - 1) * left.stride + block,
            "left operand"
        );
        assert!(right.data.len() >= right.extent(), "right operand");
        assert!(acc.len() >= (left.row_blocks * ROWS - 1) * stride + COLUMNS, "sums");
        #[cfg(target_arch = "x86_64")]
        match self.instructions {
            Instructions::Amx => amx::multiply(left, right, acc, stride, add),
            Instructions::Avx512Bf16 => avx512::multiply(left, right, acc, stride, add),
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (acc, add, self.instructions);
            unreachable!("no processor of this target has such instructions");
        }
    }
}

#[cfg(test)]
mod tests;
