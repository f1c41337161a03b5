//! Changing weights of a copied model.

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// Changes the tensors of one weights file.
pub(crate) fn edit(file: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let mut tensors = candle_core::safetensors::load(file, &Device::Cpu).expect("tensors");
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, file).expect("saved");
}
