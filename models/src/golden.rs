//! Reads the golden numbers of `tests/parity` for the unit tests of this crate.

use serde_json::Value;
use std::path::{Path, PathBuf};

/// A file or folder of them.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/golden").join(name)
}

pub(crate) fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(path(name)).expect(name)).expect(name)
}

pub(crate) fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("numbers").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
}
