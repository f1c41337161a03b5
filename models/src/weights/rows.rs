//! A tensor in a file, and some of its rows.

use crate::weight_file::StoredType;
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
