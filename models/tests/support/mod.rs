//! Breaking a copied model on purpose.

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// Changes the tensors of one weights file.
pub(crate) fn edit(file: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let mut tensors = candle_core::safetensors::load(file, &Device::Cpu).expect("tensors");
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, file).expect("saved");
}

/// Replaces the first `from`, which must be there, in a text file.
pub(crate) fn swap(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).expect("a config");
    assert!(text.contains(from), "{} has no {from}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).expect("written");
}
