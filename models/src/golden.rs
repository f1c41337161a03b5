//! Reads the golden numbers of `tests/parity` for the unit tests of this crate.

use serde_json::Value;

pub(crate) fn json(name: &str) -> Value {
    let path = format!("{}/../tests/parity/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(&path).expect(&path)).expect(&path)
}

pub(crate) fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("numbers").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
}
