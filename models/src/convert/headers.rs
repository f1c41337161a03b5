//! The headers of the files that are written.

use crate::weight_file::{GGUF_MAGIC, StoredType, ggml_type};
use crate::{Error, Result};
use candle_core::quantized::GgmlDType;
use safetensors::Dtype;
use serde_json::{Map, json};

/// Bytes at whose multiples tensors begin in a GGUF file.
pub(super) const ALIGNMENT: usize = 32;

/// A tensor as a header describes it.
pub(super) struct TensorEntry<'a> {
    name: &'a str,
    shape: &'a [usize],
    pub(super) dtype: StoredType,
    bytes: usize,
}

impl<'a> TensorEntry<'a> {
    pub(super) fn new(name: &'a str, shape: &'a [usize], dtype: StoredType) -> Result<Self> {
        let bytes = dtype.bytes(shape.iter().product());
        let bytes = bytes.ok_or_else(|| Error::Model(format!("{name} {shape:?} cannot be {dtype}")))?;
        Ok(Self { name, shape, dtype, bytes })
    }
}

/// Version 3 of ggml's `docs/gguf.md`.
///
/// # Errors
/// A tensor is of a type that GGUF does not have.
pub(super) fn gguf(entries: &[TensorEntry], architecture: &str, matrices: StoredType) -> Result<Vec<u8>> {
    /// Types of values of keys.
    const U32: u32 = 4;
    const STRING: u32 = 8;
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let mut out = GGUF_MAGIC.to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((entries.len() as u64).to_le_bytes());
    let numbers = [("general.quantization_version", 2), ("general.file_type", file_type(matrices))];
    out.extend((1 + numbers.len() as u64).to_le_bytes());
    text(&mut out, "general.architecture");
    out.extend(STRING.to_le_bytes());
    text(&mut out, architecture);
    for (key, value) in numbers {
        text(&mut out, key);
        out.extend(U32.to_le_bytes());
        out.extend(u32::to_le_bytes(value));
    }
    let mut begin = 0;
    for entry in entries {
        text(&mut out, entry.name);
        out.extend((entry.shape.len() as u32).to_le_bytes());
        // The innermost dimension is the first.
        for size in entry.shape.iter().rev() {
            out.extend((*size as u64).to_le_bytes());
        }
        let kind = ggml_type(entry.dtype)
            .ok_or_else(|| Error::Model(format!("{} cannot be {} in GGUF", entry.name, entry.dtype)))?;
        out.extend(kind.to_le_bytes());
        out.extend((begin as u64).to_le_bytes());
        begin += entry.bytes.next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok(out)
}

/// `llama_ftype`, what most of a file is.
fn file_type(matrices: StoredType) -> u32 {
    match matrices {
        StoredType::Blocks(GgmlDType::Q4_0) => 2,
        StoredType::Blocks(GgmlDType::Q4_1) => 3,
        StoredType::Blocks(GgmlDType::Q8_0) => 7,
        StoredType::Blocks(GgmlDType::Q5_0) => 8,
        StoredType::Blocks(GgmlDType::Q5_1) => 9,
        StoredType::Blocks(GgmlDType::Q4K) => 14,
        StoredType::Blocks(GgmlDType::Q5K) => 16,
        StoredType::Blocks(GgmlDType::Q6K) => 18,
        StoredType::Plain(Dtype::BF16) => 32,
        _ => 1,
    }
}

/// The header of a safetensors file.
pub(super) fn safetensors(entries: &[TensorEntry]) -> Result<Vec<u8>> {
    let mut tensors = Map::new();
    let mut begin = 0;
    for TensorEntry { name, shape, dtype, bytes } in entries {
        let end = begin + bytes;
        let described = json!({ "dtype": dtype.to_string(), "shape": shape, "data_offsets": [begin, end] });
        tensors.insert((*name).to_owned(), described);
        begin = end;
    }
    let mut json = serde_json::to_vec(&tensors).map_err(|error| Error::Model(error.to_string()))?;
    // Readers map tensors where they are.
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}
