//! Files of adapters, written by hand.

use serde_json::{Map, json};

/// A tensor of f32.
pub(crate) struct Tensor {
    name: String,
    shape: [usize; 2],
    values: Vec<f32>,
}

impl Tensor {
    pub(crate) fn zeros(name: &str, shape: [usize; 2]) -> Self {
        Self { name: name.into(), shape, values: vec![0.0; shape[0] * shape[1]] }
    }
}

/// A safetensors file.
pub(crate) fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for Tensor { name, shape, values } in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::to_vec(&header).expect("JSON");
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
