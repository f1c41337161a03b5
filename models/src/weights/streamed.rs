//! Matrices that stay in their files, and are read for each product.

use super::resolved::Resolved;
use super::source::PartFiles;
use crate::target::Target;
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;

/// A matrix of weights of which only its place in the files is in memory.
pub(crate) struct StreamedMatrix {
    files: Arc<PartFiles>,
    /// One below the other.
    tensors: Vec<Resolved>,
    /// Of each: rows and columns.
    shape: [usize; 2],
    target: Target,
}

impl StreamedMatrix {
    pub(super) fn new(
        files: &Arc<PartFiles>,
        tensors: Vec<Resolved>,
        shape: [usize; 2],
        target: &Target,
    ) -> Self {
        Self { files: files.clone(), tensors, shape, target: target.clone() }
    }

    /// All of it, on the device in the model's precision.
    ///
    /// # Errors
    /// A file cannot be read any more, or the device has too little memory.
    pub(crate) fn read(&self) -> Result<Tensor> {
        self.files.read_stacked(&self.tensors, &self.shape, &self.target)
    }

    /// The rows with these numbers, `[ids, columns]`.
    ///
    /// # Errors
    /// As [`Self::read`], or a number is that of no row.
    pub(crate) fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        let [table @ Resolved::Stored { stored, .. }] = &self.tensors[..] else {
            bail!("a table is one tensor, not {}", self.tensors.len())
        };
        if let Some(id) = ids.iter().find(|id| **id as usize >= stored.row_count()) {
            bail!("row {id} of a table of {}", stored.row_count())
        }
        let rows: Vec<_> = ids.iter().map(|id| stored.rows(*id as usize..*id as usize + 1)).collect();
        table.read_scaled(&self.files, &rows, &self.target)
    }
}
