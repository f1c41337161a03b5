//! A tensor that is there and fits: which rows of a file it is, and what they are multiplied by.

use super::rows::{Rows, StoredTensor};
use super::source::PartFiles;
use crate::checkpoint::RowOrder;
use crate::target::Target;
use candle_core::{DType, Device, Result, Tensor};

/// A tensor of the right shape.
pub(super) enum Resolved<'a> {
    Stored { stored: &'a StoredTensor, order: RowOrder, scale: Option<&'a StoredTensor> },
    Identity,
}

impl<'a> Resolved<'a> {
    pub(super) fn rows(&self) -> Vec<Rows<'a>> {
        let Self::Stored { stored, order, .. } = self else { return Vec::new() };
        order.ranges(stored.row_count()).map(|range| stored.rows(range)).collect()
    }

    pub(super) fn scale(&self) -> Option<&'a StoredTensor> {
        match self {
            Self::Stored { scale, .. } => *scale,
            Self::Identity => None,
        }
    }

    /// Its rows, multiplied in f32 and rounded once.
    pub(super) fn read_scaled(
        &self,
        files: &PartFiles,
        Target { device, dtype, .. }: &Target,
    ) -> Result<Tensor> {
        let values = files.read(&self.rows(), DType::F32, device)?;
        let Some(scale) = self.scale() else { return values.to_dtype(*dtype) };
        let scale = files.read(&[scale.all()], DType::F32, &Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        (values * f64::from(scale[0]))?.to_dtype(*dtype)
    }
}
