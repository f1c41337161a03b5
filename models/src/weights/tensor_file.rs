//! A single file of tensors that is no part of a model: an adapter.

use super::source::PartFiles;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// An open file; its header is checked, its tensors are read on request.
pub(crate) struct TensorFile(PartFiles);

impl TensorFile {
    /// # Errors
    /// There is no such file, or it is no whole safetensors file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        PartFiles::file(path).map(Self)
    }

    /// Names and shapes.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.0.tensors().map(|(name, stored)| (name.as_str(), stored.shape.as_slice()))
    }

    /// What its author wrote about it.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub(crate) fn metadata(&self) -> Result<BTreeMap<String, String>> {
        self.0.files.first().map_or_else(|| Ok(BTreeMap::new()), |file| file.metadata())
    }

    /// The number that a tensor of one value is, integers too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>> {
        self.0.get(name).map_or(Ok(None), |stored| self.0.number(stored).map_err(Error::from))
    }

    /// The dtype of a tensor, if numbers of it cannot be read.
    pub(crate) fn unreadable(&self, name: &str) -> Option<String> {
        let dtype = self.0.get(name)?.dtype;
        (!dtype.is_readable()).then(|| dtype.to_string())
    }

    /// SHA-256 of the whole file in hexadecimal digits.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn digest(&self) -> Result<String> {
        self.0.files.first().map_or_else(|| Ok(String::new()), |file| file.digest())
    }

    /// A tensor in host memory, as f32 or bf16; `None` if there is none of this name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&self, name: &str, dtype: DType) -> Result<Option<Tensor>> {
        let Some(stored) = self.0.get(name) else { return Ok(None) };
        let rows = self.0.read(&[stored.all()], dtype, &Device::Cpu)?;
        Ok(Some(rows.reshape(stored.shape.as_slice())?))
    }
}
