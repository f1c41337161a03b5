//! A tensor in a file, and some of its rows.

use crate::weight_file::StoredType;
use candle_core::quantized::GgmlDType;
use std::ops::Range;

/// A tensor in a file.
#[derive(Debug, Clone)]
pub(super) struct StoredTensor {
    /// Number of the file.
    pub(super) file: usize,
    pub(super) dtype: StoredType,
    pub(super) shape: Vec<usize>,
    /// Where it begins, in bytes of the file's tensors.
    pub(super) begin: u64,
}

/// Some rows of a stored tensor: of its first dimension.
#[derive(Debug, Clone)]
pub(super) struct Rows<'a> {
    pub(super) of: &'a StoredTensor,
    pub(super) range: Range<usize>,
}

impl StoredTensor {
    /// Its first dimension; a scalar is one row.
    pub(super) fn row_count(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The dimensions of a row.
    pub(super) fn row_shape(&self) -> &[usize] {
        self.shape.get(1..).unwrap_or_default()
    }

    /// Values of a row; the header was checked to have no more than can be counted.
    pub(super) fn row(&self) -> usize {
        self.row_shape().iter().product()
    }

    /// Bytes in its file; the header was checked to have room for them.
    pub(super) fn bytes(&self) -> usize {
        self.dtype.bytes(self.shape.iter().product()).unwrap_or_default()
    }

    /// All of it.
    pub(super) fn all(&self) -> Rows<'_> {
        self.rows(0..self.row_count())
    }

    /// A part of it.
    pub(super) fn rows(&self, range: Range<usize>) -> Rows<'_> {
        Rows { of: self, range }
    }
}

impl<'a> Rows<'a> {
    /// The same rows in pieces of at most this many.
    pub(super) fn pieces(&self, rows: usize) -> impl Iterator<Item = Rows<'a>> + use<'a> {
        let Rows { of, range } = self.clone();
        let end = range.end;
        range.step_by(rows).map(move |start| Rows { of, range: start..end.min(start + rows) })
    }
}

/// Rows of whole blocks in their file.
pub(super) struct Blocks<'a> {
    pub(super) dtype: GgmlDType,
    pub(super) of: &'a StoredTensor,
    /// Bytes from the tensor's first.
    pub(super) at: u64,
    pub(super) bytes: usize,
    pub(super) rows: usize,
    pub(super) row_bytes: usize,
}

/// Where these rows are, if there are any and all are whole blocks of quantized values.
pub(super) fn blocks<'a>(parts: &[Rows<'a>]) -> Option<Vec<Blocks<'a>>> {
    let columns = parts.first()?.of.row();
    let blocks = |Rows { of, range }: &Rows<'a>| {
        let (StoredType::Blocks(dtype), row_bytes) = (of.dtype, of.dtype.bytes(columns)?) else {
            return None;
        };
        let (at, rows) = ((range.start * row_bytes) as u64, range.len());
        Some(Blocks { dtype, of, at, bytes: rows * row_bytes, rows, row_bytes })
    };
    parts.iter().map(blocks).collect()
}
