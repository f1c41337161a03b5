//! The formats of single layers, as ComfyUI's mixed precision writes them into safetensors files: as JSON in a tensor
//! `LAYER.comfy_quant` of bytes, or of all layers in the header's `_quantization_metadata` (comfy/utils.py,
//! `convert_old_quants`; comfy/ops.py, `_load_quantized_module`; QUANTIZATION.md of ComfyUI).
//!
//! The weights of such layers get the type and the shape that their values have once they are dequantized.

use super::stored_type::{ScaledType, StoredType};
use super::{Format, StoredEntry, WeightFile, shown};
use crate::error::one_line;
use crate::{Error, Result};
use safetensors::Dtype;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the names of formats, of scales and of weights end with.
const FORMAT: &str = ".comfy_quant";
const SCALE: &str = ".weight_scale";
const WEIGHT: &str = ".weight";

/// A scale of the input, which a dequantized weight does without the product that it belongs to.
const SMOOTHING: &str = ".pre_quant_scale";

/// The header's text with the formats of all layers.
const METADATA: &str = "_quantization_metadata";

/// What the names of a transformer begin with in a checkpoint: some programs leave it out of the metadata.
const PREFIXES: [&str; 2] = ["", "model.diffusion_model."];

/// Most bytes of a `comfy_quant`; real ones have some fifty.
const LONGEST: usize = 4096;

/// What latentd reads, for messages.
const READABLE: &str = "float8_e4m3fn, float8_e5m2, mxfp8, nvfp4 and int8_tensorwise";

/// The tensors of a file with the types that it says its layers have.
///
/// # Errors
/// A layer is in a format that is not read, or its weight is not in the format that it is said to be in.
pub(super) fn apply(file: &WeightFile, mut entries: Vec<StoredEntry>) -> Result<Vec<StoredEntry>> {
    let is_mark = |entry: &StoredEntry| [FORMAT, SCALE].iter().any(|mark| entry.name.ends_with(mark));
    if file.format == Format::Gguf || !entries.iter().any(is_mark) {
        return Ok(entries);
    }
    let named = |why: String| Error::Model(format!("{}: {why}", file.shown));
    if let Some(entry) = entries.iter().find(|entry| entry.name.ends_with(SMOOTHING)) {
        return Err(named(format!("latentd does not read its {}: {}", shown(&entry.name), advice())));
    }
    let formats = formats(file, &entries)?;
    let scaled: BTreeSet<String> =
        entries.iter().filter_map(|entry| Some(entry.name.strip_suffix(SCALE)?.to_owned())).collect();
    for entry in &mut entries {
        let Some(layer) = entry.name.strip_suffix(WEIGHT) else { continue };
        match formats.get(layer) {
            Some(format) => {
                (entry.dtype, entry.shape) = stored_as(entry, format).map_err(named)?;
            }
            None if is_packed(entry.dtype) && scaled.contains(layer) => {
                return Err(named(format!(
                    "its layer {} has a {SCALE}, but no {FORMAT} says what its {} are: {}",
                    shown(layer),
                    entry.dtype,
                    advice()
                )));
            }
            None => {}
        }
    }
    Ok(entries)
}

/// Whether values of this type are none by themselves.
fn is_packed(dtype: StoredType) -> bool {
    matches!(dtype, StoredType::Plain(Dtype::U8 | Dtype::I8 | Dtype::F4))
}

fn advice() -> String {
    format!("use the same model in F16, BF16, scaled fp8 or GGUF, or in one of {READABLE}")
}

/// The type and the shape of a weight whose layer is in this format.
fn stored_as(entry: &StoredEntry, format: &Value) -> Result<(StoredType, Vec<usize>), String> {
    let layer = || shown(entry.name.trim_end_matches(WEIGHT));
    let name = format["format"].as_str().unwrap_or("unnamed format");
    let is_rotated = [&format["convrot"], &format["params"]["convrot"]].iter().any(|flag| **flag == true);
    let (found, dtype) = match (name, is_rotated) {
        ("float8_e4m3fn", _) => (Dtype::F8_E4M3, StoredType::Plain(Dtype::F8_E4M3)),
        ("float8_e5m2", _) => (Dtype::F8_E5M2, StoredType::Plain(Dtype::F8_E5M2)),
        ("mxfp8", _) => (Dtype::F8_E4M3, StoredType::Scaled(ScaledType::Mxfp8)),
        ("nvfp4", _) => (Dtype::U8, StoredType::Scaled(ScaledType::Nvfp4)),
        ("int8_tensorwise", false) => (Dtype::I8, StoredType::Scaled(ScaledType::Int8)),
        (name, _) => {
            let name = one_line(name, 40);
            let rotated = if is_rotated { " with convrot" } else { "" };
            return Err(format!(
                "its layer {} is in ComfyUI's {name}{rotated}, which latentd does not read: {}",
                layer(),
                advice()
            ));
        }
    };
    let wrong = || {
        let (stored, shape) = (entry.dtype, &entry.shape);
        Err(format!("its layer {} is said to be in {name}, but its weight is {stored} {shape:?}", layer()))
    };
    if entry.dtype != StoredType::Plain(found) {
        return wrong();
    }
    match (dtype, &entry.shape[..]) {
        (StoredType::Scaled(ScaledType::Nvfp4), [rows, pairs]) if pairs.is_multiple_of(8) => {
            Ok((dtype, vec![*rows, pairs.saturating_mul(2)]))
        }
        (StoredType::Scaled(ScaledType::Mxfp8), [_, columns]) if columns.is_multiple_of(32) => {
            Ok((dtype, entry.shape.clone()))
        }
        (StoredType::Scaled(ScaledType::Int8), [_, _]) | (StoredType::Plain(_), _) => {
            Ok((dtype, entry.shape.clone()))
        }
        _ => wrong(),
    }
}

/// What the file says of each layer; the header's word counts where both say something.
fn formats(file: &WeightFile, entries: &[StoredEntry]) -> Result<BTreeMap<String, Value>> {
    let mut formats = BTreeMap::new();
    for entry in entries {
        let Some(layer) = entry.name.strip_suffix(FORMAT) else { continue };
        let bytes: usize = entry.shape.iter().product();
        let json = match entry.dtype {
            StoredType::Plain(Dtype::U8) if bytes <= LONGEST => {
                let mut text = vec![0; bytes];
                file.read(entry.begin, &mut text)?;
                serde_json::from_slice(&text).ok()
            }
            _ => None,
        };
        let Some(json) = json else {
            let name = shown(&entry.name);
            return Err(Error::Model(format!("{}: its {name} is no JSON: download it again", file.shown)));
        };
        formats.insert(layer.to_owned(), json);
    }
    let Some(text) = file.metadata()?.remove(METADATA) else { return Ok(formats) };
    let metadata: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(layers) = metadata["layers"].as_object() else {
        return Err(Error::Model(format!(
            "{}: its {METADATA} lists no layers: download it again",
            file.shown
        )));
    };
    let weights: BTreeSet<&str> =
        entries.iter().filter_map(|entry| entry.name.strip_suffix(WEIGHT)).collect();
    for (layer, format) in layers {
        let names = PREFIXES.iter().map(|prefix| format!("{prefix}{layer}"));
        if let Some(name) = names.into_iter().find(|name| weights.contains(name.as_str())) {
            formats.insert(name, format.clone());
        }
    }
    Ok(formats)
}
