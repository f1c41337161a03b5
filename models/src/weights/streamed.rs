//! Matrices that stay in their files, and are read for each product.

use super::place::{MatrixUse, Place};
use super::read_ahead::{Position, ReadAhead};
use super::resolved::Resolved;
use super::rows::Rows;
use super::source::PartFiles;
#[cfg(feature = "cuda")]
use super::upload_ahead::OnTheirWay;
use crate::target::Target;
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;

/// The files of a part that matrices stay in.
#[derive(Debug)]
pub(super) struct StreamedPart {
    files: Arc<PartFiles>,
    read_ahead: ReadAhead,
    #[cfg(feature = "cuda")]
    on_their_way: OnTheirWay,
}

/// A matrix of weights of which only its place in the files is in memory.
pub(crate) struct StreamedMatrix {
    part: Arc<StreamedPart>,
    place: Arc<Place>,
    target: Target,
    /// Unless only rows are read.
    position: Option<Position>,
}

impl StreamedPart {
    pub(super) fn new(files: &Arc<PartFiles>) -> Self {
        Self {
            files: files.clone(),
            read_ahead: ReadAhead::default(),
            #[cfg(feature = "cuda")]
            on_their_way: OnTheirWay::default(),
        }
    }

    /// One of its matrices.
    pub(super) fn matrix(
        self: &Arc<Self>,
        tensors: Vec<Resolved>,
        shape: [usize; 2],
        usage: MatrixUse,
        target: &Target,
    ) -> StreamedMatrix {
        let place = Arc::new(Place { tensors, shape });
        let position = self.read_ahead.add(usage, &place);
        StreamedMatrix { part: self.clone(), place, target: target.clone(), position }
    }
}

impl StreamedMatrix {
    /// All of it, on the device in the model's precision. The one that is read next is on its way then.
    ///
    /// # Errors
    /// A file cannot be read any more, or the device has too little memory.
    pub(crate) fn read(&self) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self.target.device.is_cuda() && !self.place.is_scaled() {
            let StreamedPart { files, read_ahead, on_their_way } = &*self.part;
            return on_their_way.upload((&self.place, self.position), files, read_ahead, &self.target);
        }
        let Place { tensors, shape } = &*self.place;
        let matrix = self.part.files.read_stacked(tensors, shape, &self.target)?;
        self.read_ahead();
        Ok(matrix)
    }

    /// The rows with these numbers, `[ids, columns]`.
    ///
    /// # Errors
    /// As [`Self::read`], or a number is that of no row.
    pub(crate) fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        let [table @ Resolved::Stored { stored, .. }] = &self.place.tensors[..] else {
            bail!("a table is one tensor, not {}", self.place.tensors.len())
        };
        if let Some(id) = ids.iter().find(|id| **id as usize >= stored.row_count()) {
            bail!("row {id} of a table of {}", stored.row_count())
        }
        let rows: Vec<_> = ids.iter().map(|id| stored.rows(*id as usize..*id as usize + 1)).collect();
        table.read_scaled(&self.part.files, &rows, &self.target)
    }

    /// Begins to read the matrix behind this one into the page cache, on a thread of the readers, since that can wait for the
    /// disk; behind the last that every step reads the first, with which the next step begins. Without such a thread it is
    /// read when it is needed.
    fn read_ahead(&self) {
        let Some(position) = self.position else { return };
        let StreamedPart { files, read_ahead, .. } = &*self.part;
        let behind = read_ahead.after(position).map(|(_, place)| place);
        let next = behind.or_else(|| read_ahead.first(position.usage));
        if let (Some(next), Ok(readers)) = (next, files.readers.get()) {
            let files = files.clone();
            readers.spawn(move || will_read(&next, &files));
        }
    }
}

/// Has the system read a matrix into its page cache.
fn will_read(place: &Place, files: &PartFiles) {
    for Rows { of, range } in place.rows() {
        let bytes = |rows: usize| of.dtype.bytes(rows * of.row()).unwrap_or_default() as u64;
        files.files[of.file].will_read(of.begin + bytes(range.start), bytes(range.len()));
    }
}
