//! Matrices that stay in their files, and are read for each product.

use super::MatrixUse;
use super::read_ahead::{Extent, Position};
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
    position: Position,
}

impl StreamedMatrix {
    pub(super) fn new(
        files: &Arc<PartFiles>,
        tensors: Vec<Resolved>,
        shape: [usize; 2],
        usage: MatrixUse,
        target: &Target,
    ) -> Self {
        let rows: Vec<_> = tensors.iter().flat_map(Resolved::rows).collect();
        let position = files.read_ahead.add(usage, &rows);
        Self { files: files.clone(), tensors, shape, target: target.clone(), position }
    }

    /// All of it, on the device in the model's precision. The one that is read next is on its way then.
    ///
    /// # Errors
    /// A file cannot be read any more, or the device has too little memory.
    pub(crate) fn read(&self) -> Result<Tensor> {
        let matrix = self.files.read_stacked(&self.tensors, &self.shape, &self.target)?;
        self.read_ahead();
        Ok(matrix)
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

    /// Begins to read the matrix behind this one into the page cache, on a thread of the readers, since that can wait for the
    /// disk. Without such a thread it is read when it is needed.
    fn read_ahead(&self) {
        let files = &self.files;
        let (Some(next), Ok(readers)) = (files.read_ahead.after(self.position), files.readers.get()) else {
            return;
        };
        let files = files.clone();
        readers.spawn(move || {
            for Extent { file, at, bytes } in next.iter() {
                files.files[*file].will_read(*at, *bytes);
            }
        });
    }
}
