//! What a file of weights says of its tensors, without reading any.

use crate::Result;
use crate::weight_file::{self, TensorHeader};
use std::collections::BTreeMap;
use std::path::Path;

/// Tensors by name.
#[derive(Debug)]
pub(crate) struct Header(BTreeMap<String, TensorHeader>);

impl Header {
    /// # Errors
    /// It is no whole file of weights; says what it is instead, if that is known.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let tensors = weight_file::tensors(path)?;
        Ok(Self(tensors.into_iter().map(|stored| (stored.name.clone(), stored)).collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&TensorHeader> {
        self.0.get(name)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(|stored| stored.shape.as_slice())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
