//! Helpers that damage a copied model.

mod edit;

pub(crate) use edit::edit;

use std::path::Path;

/// Replaces the first `from` in a text file, which must contain it.
pub(crate) fn swap(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).expect("a config");
    assert!(text.contains(from), "{} has no {from}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).expect("written");
}
