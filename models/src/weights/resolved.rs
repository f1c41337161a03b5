//! A tensor that is there and fits: which rows of a file it is, and what they are multiplied by.

use super::rows::{Rows, StoredTensor};
use super::scale::Scale;
use super::source::PartFiles;
use crate::checkpoint::RowOrder;
use crate::target::Target;
use candle_core::{DType, Result, Tensor};

/// A tensor of the right shape.
#[derive(Debug)]
pub(super) enum Resolved {
    Stored { stored: StoredTensor, order: RowOrder, scale: Option<Scale> },
    Identity,
}

impl Resolved {
    /// Its rows in the order in which the model has them.
    pub(super) fn rows(&self) -> Vec<Rows<'_>> {
        let Self::Stored { stored, order, .. } = self else { return Vec::new() };
        order.ranges(stored.row_count()).map(|range| stored.rows(range)).collect()
    }

    pub(super) fn scale(&self) -> Option<&Scale> {
        match self {
            Self::Stored { scale, .. } => scale.as_ref(),
            Self::Identity => None,
        }
    }

    /// These of its rows, multiplied in f32 and rounded once.
    pub(super) fn read_scaled(
        &self,
        files: &PartFiles,
        rows: &[Rows],
        Target { device, dtype, .. }: &Target,
    ) -> Result<Tensor> {
        let Some(scale) = self.scale() else { return files.read(rows, *dtype, device) };
        scale.multiply(files.read(rows, DType::F32, device)?, rows, files)?.to_dtype(*dtype)
    }
}

impl PartFiles {
    /// Tensors of this shape, at least one, one below the other: `[tensors * shape[0], ..]`. Where none has a scale each is
    /// read into its place, so that stacking takes no memory.
    pub(super) fn read_stacked(
        &self,
        tensors: &[Resolved],
        shape: &[usize],
        target: &Target,
    ) -> Result<Tensor> {
        if let [Resolved::Identity] = tensors {
            return Tensor::eye(shape[0], target.dtype, &target.device);
        }
        if tensors.iter().any(|tensor| tensor.scale().is_some()) {
            let scaled =
                tensors.iter().map(|tensor| tensor.read_scaled(self, &tensor.rows(), target)?.reshape(shape));
            return Tensor::cat(&scaled.collect::<Result<Vec<_>>>()?, 0);
        }
        let rows: Vec<_> = tensors.iter().flat_map(Resolved::rows).collect();
        self.read(&rows, target.dtype, &target.device)?.reshape(stacked(shape, tensors.len()))
    }
}

/// The shape of so many tensors of one shape, one below the other.
pub(super) fn stacked(shape: &[usize], count: usize) -> Vec<usize> {
    let mut stacked = shape.to_vec();
    if let Some(rows) = stacked.first_mut() {
        *rows = rows.saturating_mul(count);
    }
    stacked
}
