//! The header of a GGUF file, versions 2 and 3: counts, keys with values, then the tensors' names, shapes, types and offsets.
//! The tensors' bytes follow at the next multiple of the file's alignment.
//!
//! It is untrusted: every count is bounded by the bytes that are there before anything is made of it. The format is that of
//! ggml's `docs/gguf.md`.

use super::safetensors_header::shown;
use super::stored_type::StoredType;
use super::{MAX_DIMENSIONS, StoredEntry};
use crate::content::Content;
use candle_core::quantized::GgmlDType;
use safetensors::Dtype;
use std::collections::{BTreeMap, BTreeSet};

/// What a file begins with.
pub(crate) const MAGIC: &[u8] = b"GGUF";

/// Most bytes of a header. That of a T5 has its vocabulary in it: about 1 MB.
const LONGEST: u64 = 64 << 20;

/// Bytes that are read at a time.
const WINDOW: usize = 64 << 10;

/// Where tensors begin if the file does not say it.
const ALIGNMENT: u64 = 32;

/// What ComfyUI's converter calls the shape of a tensor that it has stored in another one.
const ORIGINAL_SHAPE: &str = "comfy.gguf.orig_shape.";

/// The tensors in the order of their bytes, and where those begin in the file.
///
/// # Errors
/// Says what is wrong with the header.
pub(super) fn read(content: &Content) -> Result<(Vec<StoredEntry>, u64), String> {
    let mut header = HeaderReader::new(content);
    header.bytes(MAGIC.len())?;
    match header.u32()? {
        2 | 3 => {}
        1 => return Err("it is of version 1 of the format, and latentd reads 2 and 3".into()),
        other if matches!(other.swap_bytes(), 1..=3) => {
            return Err("its numbers are in big-endian order".into());
        }
        other => return Err(format!("it is of version {other} of the format, and latentd reads 2 and 3")),
    }
    let (tensors, keys) = (header.u64()?, header.u64()?);
    let mut settings = Settings::default();
    for _ in 0..keys {
        settings.read(&mut header)?;
    }
    settings.check()?;
    let mut entries = Vec::new();
    for _ in 0..tensors {
        entries.push(entry(&mut header, &settings)?);
    }
    let start = header.at.checked_next_multiple_of(settings.alignment).ok_or("its alignment is too large")?;
    check(&mut entries, content.len().saturating_sub(start), settings.alignment)?;
    Ok((entries, start))
}

/// What the keys say that matters here.
struct Settings {
    architecture: String,
    alignment: u64,
    /// Files that the tensors are spread over.
    parts: u64,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { architecture: String::new(), alignment: ALIGNMENT, parts: 1, shapes: BTreeMap::new() }
    }
}

impl Settings {
    fn read(&mut self, header: &mut HeaderReader) -> Result<(), String> {
        let key = header.text()?;
        let kind = header.u32()?;
        match (key.as_str(), kind) {
            ("general.architecture", 8) => self.architecture = header.text()?,
            ("general.alignment", 4) => self.alignment = header.u32()?.into(),
            ("split.count", 2) => self.parts = header.u16()?.into(),
            (key, 9) if key.starts_with(ORIGINAL_SHAPE) => {
                let name = key[ORIGINAL_SHAPE.len()..].to_owned();
                let shape = header.integers()?;
                self.shapes.insert(name, shape);
            }
            _ => header.skip(kind)?,
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.parts > 1 {
            return Err(format!("it is one of the {} parts of a split file: merge them first", self.parts));
        }
        if self.alignment == 0 || !self.alignment.is_multiple_of(8) {
            return Err(format!("its alignment is {}, no multiple of 8", self.alignment));
        }
        Ok(())
    }
}

/// The next tensor, with its offset as the file has it.
fn entry(header: &mut HeaderReader, settings: &Settings) -> Result<StoredEntry, String> {
    let stored = header.text()?;
    let dimensions = header.u32()? as usize;
    if dimensions > MAX_DIMENSIONS {
        return Err(format!("its tensor {} has {dimensions} dimensions", shown(&stored)));
    }
    // The innermost dimension is the first.
    let mut shape = (0..dimensions).map(|_| header.size()).collect::<Result<Vec<_>, _>>()?;
    shape.reverse();
    let kind = header.u32()?;
    let dtype = stored_type(kind).ok_or_else(|| {
        format!(
            "its tensor {} is of ggml's type {kind}; latentd reads {}",
            shown(&stored),
            StoredType::READABLE
        )
    })?;
    let begin = header.u64()?;
    if let Some(original) = settings.shapes.get(&stored)
        && count(original) == count(&shape)
    {
        shape.clone_from(original);
    }
    let name = if settings.architecture.starts_with("t5") { t5_name(&stored) } else { stored };
    Ok(StoredEntry { name, dtype, shape, begin })
}

/// Sorts the tensors by their bytes, of which the file has `data`, and checks that each has its own.
fn check(entries: &mut [StoredEntry], data: u64, alignment: u64) -> Result<(), String> {
    entries.sort_by_key(|entry| entry.begin);
    let mut names = BTreeSet::new();
    let mut end = 0;
    for StoredEntry { name, dtype, shape, begin } in &*entries {
        let shown = shown(name);
        if !names.insert(name) {
            return Err(format!("{shown} is there twice"));
        }
        let rows_are_blocks = shape.last().is_none_or(|row| row.is_multiple_of(dtype.block_values()));
        let bytes = count(shape).filter(|_| rows_are_blocks).and_then(|values| dtype.bytes(values));
        let Some(bytes) = bytes else {
            return Err(format!("its tensor {shown} is {dtype} {shape:?}, which is no number of bytes"));
        };
        if *begin < end || !begin.is_multiple_of(alignment) {
            return Err(format!(
                "its tensor {shown} begins at byte {begin}, inside another or off its alignment"
            ));
        }
        end = begin.checked_add(bytes as u64).ok_or("its tensors are more than can be counted")?;
        if end > data {
            return Err(format!("its tensor {shown} ends at byte {end}, but only {data} are there"));
        }
    }
    Ok(())
}

/// Values of a shape, counted without zeros as strides are.
fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, size| product.checked_mul((*size).max(1)))?;
    Some(shape.iter().product())
}

/// `ggml_type`, of what models are stored in.
const TYPES: [(u32, StoredType); 14] = [
    (0, StoredType::Plain(Dtype::F32)),
    (1, StoredType::Plain(Dtype::F16)),
    (2, StoredType::Blocks(GgmlDType::Q4_0)),
    (3, StoredType::Blocks(GgmlDType::Q4_1)),
    (6, StoredType::Blocks(GgmlDType::Q5_0)),
    (7, StoredType::Blocks(GgmlDType::Q5_1)),
    (8, StoredType::Blocks(GgmlDType::Q8_0)),
    (10, StoredType::Blocks(GgmlDType::Q2K)),
    (11, StoredType::Blocks(GgmlDType::Q3K)),
    (12, StoredType::Blocks(GgmlDType::Q4K)),
    (13, StoredType::Blocks(GgmlDType::Q5K)),
    (14, StoredType::Blocks(GgmlDType::Q6K)),
    (28, StoredType::Plain(Dtype::F64)),
    (30, StoredType::Plain(Dtype::BF16)),
];

fn stored_type(kind: u32) -> Option<StoredType> {
    TYPES.iter().find(|(known, _)| *known == kind).map(|(_, dtype)| *dtype)
}

/// The number of a type; `None` for one that GGUF does not have.
pub(crate) fn ggml_type(dtype: StoredType) -> Option<u32> {
    TYPES.iter().find(|(_, known)| *known == dtype).map(|(kind, _)| *kind)
}

/// Tensors of T5's encoder: llama.cpp's names and transformers'.
const T5_WHOLE: [(&str, &str); 2] =
    [("token_embd.weight", "shared.weight"), ("enc.output_norm.weight", "encoder.final_layer_norm.weight")];

/// The same inside a block.
const T5_BLOCK: [(&str, &str); 10] = [
    ("attn_q", "layer.0.SelfAttention.q"),
    ("attn_k", "layer.0.SelfAttention.k"),
    ("attn_v", "layer.0.SelfAttention.v"),
    ("attn_o", "layer.0.SelfAttention.o"),
    ("attn_rel_b", "layer.0.SelfAttention.relative_attention_bias"),
    ("attn_norm", "layer.0.layer_norm"),
    ("ffn_gate", "layer.1.DenseReluDense.wi_0"),
    ("ffn_up", "layer.1.DenseReluDense.wi_1"),
    ("ffn_down", "layer.1.DenseReluDense.wo"),
    ("ffn_norm", "layer.1.layer_norm"),
];

/// llama.cpp's name of a tensor of T5's encoder as transformers has it; another name stands for itself.
fn t5_name(stored: &str) -> String {
    let whole = T5_WHOLE.iter().find(|(ours, _)| *ours == stored);
    let in_block = || {
        let (index, layer) = stored.strip_prefix("enc.blk.")?.split_once('.')?;
        let layer = layer.strip_suffix(".weight")?;
        let (_, theirs) = T5_BLOCK.iter().find(|(ours, _)| *ours == layer)?;
        Some(format!("encoder.block.{index}.{theirs}.weight"))
    };
    whole.map(|(_, theirs)| (*theirs).to_owned()).or_else(in_block).unwrap_or_else(|| stored.to_owned())
}

/// The other direction.
pub(crate) fn stored_t5_name(name: &str) -> String {
    let whole = T5_WHOLE.iter().find(|(_, theirs)| *theirs == name);
    let in_block = || {
        let (index, layer) = name.strip_prefix("encoder.block.")?.split_once('.')?;
        let layer = layer.strip_suffix(".weight")?;
        let (ours, _) = T5_BLOCK.iter().find(|(_, theirs)| *theirs == layer)?;
        Some(format!("enc.blk.{index}.{ours}.weight"))
    };
    whole.map(|(ours, _)| (*ours).to_owned()).or_else(in_block).unwrap_or_else(|| name.to_owned())
}

/// Reads a header from its beginning on.
struct HeaderReader<'a> {
    content: &'a Content,
    at: u64,
    window: Vec<u8>,
    /// Where the window begins.
    from: u64,
}

impl<'a> HeaderReader<'a> {
    fn new(content: &'a Content) -> Self {
        Self { content, at: 0, window: Vec::new(), from: 0 }
    }

    /// The next bytes.
    fn bytes(&mut self, count: usize) -> Result<&[u8], String> {
        let end = self.end(count as u64)?;
        if end > self.from + self.window.len() as u64 {
            let length = (count.max(WINDOW) as u64).min(self.content.len() - self.at);
            self.window.resize(length as usize, 0);
            self.from = self.at;
            self.content.read_at(self.at, &mut self.window).map_err(|error| error.to_string())?;
        }
        let begin = (self.at - self.from) as usize;
        self.at = end;
        Ok(&self.window[begin..begin + count])
    }

    /// Where so many more bytes end, which must be inside the file and its header.
    fn end(&self, count: u64) -> Result<u64, String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.content.len());
        let end = end.ok_or("its header ends in the middle")?;
        if end > LONGEST {
            return Err(format!("its header has more than {LONGEST} bytes, and no model's has"));
        }
        Ok(end)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.bytes(N)?;
        bytes.try_into().map_err(|_| "its header ends in the middle".to_owned())
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn size(&mut self) -> Result<usize, String> {
        usize::try_from(self.u64()?).map_err(|error| error.to_string())
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.size()?;
        self.end(length as u64)?;
        let bytes = self.bytes(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| "a text in its header is not UTF-8".to_owned())
    }

    /// A short list of `i32`; of another list nothing.
    fn integers(&mut self) -> Result<Vec<usize>, String> {
        let (kind, count) = (self.u32()?, self.u64()?);
        if kind != 5 || count > MAX_DIMENSIONS as u64 {
            self.skip_items(kind, count)?;
            return Ok(Vec::new());
        }
        (0..count).map(|_| Ok(self.u32()? as usize)).collect()
    }

    /// Passes over a value of this type.
    fn skip(&mut self, kind: u32) -> Result<(), String> {
        match kind {
            9 => {
                let (kind, count) = (self.u32()?, self.u64()?);
                self.skip_items(kind, count)
            }
            kind => self.skip_items(kind, 1),
        }
    }

    fn skip_items(&mut self, kind: u32, count: u64) -> Result<(), String> {
        let size: u64 = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => {
                // Each has at least its length, so the header's end ends this.
                for _ in 0..count {
                    let length = self.u64()?;
                    self.at = self.end(length)?;
                }
                return Ok(());
            }
            other => return Err(format!("a value in its header is of the unknown type {other}")),
        };
        self.at = self.end(count.checked_mul(size).ok_or("a list in its header is too long")?)?;
        Ok(())
    }
}
