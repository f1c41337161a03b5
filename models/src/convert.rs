//! A part of a model stored in another way: quantized as GGUF, or as safetensors in fp8.
//!
//! The transformer gets the names of the original layout, and T5 in GGUF those of llama.cpp, as ComfyUI-GGUF has them. One
//! tensor is in memory at a time.

mod encode;
mod headers;
mod layout;

use crate::checkpoint::{Component, Header, StoredPart};
use crate::files::ModelFiles;
use crate::target::Target;
use crate::weight_file::{StoredType, TensorHeader};
use crate::weights::{Weights, check};
use crate::{Error, ModelSource, Result};
use candle_core::quantized::GgmlDType;
use encode::encode;
use headers::TensorEntry;
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// Parts of names of matrices that stay f16: those that few values pass through, or that every block depends on. They are
/// those of llama.cpp (`attn_rel_b`) and of ComfyUI-GGUF's patch for Stable Diffusion 3.
const NO_BLOCKS: [&str; 6] =
    ["attn_rel_b.", "final_layer.", "context_embedder.", "t_embedder.", "y_embedder.", "x_embedder."];

/// Values up to which a matrix keeps f32, as ComfyUI-GGUF's converter has it.
const SMALL: usize = 1024;

/// How matrices are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvertTo(StoredType);

impl ConvertTo {
    /// By their names on the command line, the largest first.
    pub const ALL: [(&'static str, Self); 11] = [
        ("bf16", Self(StoredType::Plain(Dtype::BF16))),
        ("f16", Self(StoredType::Plain(Dtype::F16))),
        ("q8_0", Self(StoredType::Blocks(GgmlDType::Q8_0))),
        ("fp8", Self(StoredType::Plain(Dtype::F8_E4M3))),
        ("q6_k", Self(StoredType::Blocks(GgmlDType::Q6K))),
        ("q5_1", Self(StoredType::Blocks(GgmlDType::Q5_1))),
        ("q5_0", Self(StoredType::Blocks(GgmlDType::Q5_0))),
        ("q5_k", Self(StoredType::Blocks(GgmlDType::Q5K))),
        ("q4_1", Self(StoredType::Blocks(GgmlDType::Q4_1))),
        ("q4_0", Self(StoredType::Blocks(GgmlDType::Q4_0))),
        ("q4_k", Self(StoredType::Blocks(GgmlDType::Q4K))),
    ];

    /// The type of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, to)| *to)
    }

    /// `gguf`, or `safetensors` for fp8, which GGUF does not have.
    pub fn extension(self) -> &'static str {
        if self.is_fp8() { "safetensors" } else { "gguf" }
    }

    fn is_fp8(self) -> bool {
        self.0 == StoredType::Plain(Dtype::F8_E4M3)
    }

    /// The type of a tensor of this shape: vectors and small matrices stay f32, other ranks and rows that are no whole blocks
    /// are f16, as are the matrices that no block is made of. A K-quant that does not fit becomes what llama.cpp takes in
    /// its place.
    fn of(self, name: &str, shape: &[usize]) -> StoredType {
        if shape.len() < 2 || shape.iter().product::<usize>() <= SMALL {
            return StoredType::Plain(Dtype::F32);
        }
        if matches!(self.0, StoredType::Blocks(_)) && NO_BLOCKS.iter().any(|part| name.contains(part)) {
            return StoredType::Plain(Dtype::F16);
        }
        let smaller = match self.0 {
            StoredType::Blocks(GgmlDType::Q4K) => Some(GgmlDType::Q5_0),
            StoredType::Blocks(GgmlDType::Q5K) => Some(GgmlDType::Q5_1),
            StoredType::Blocks(GgmlDType::Q6K) => Some(GgmlDType::Q8_0),
            _ => None,
        };
        let fits = |dtype: &StoredType| {
            matches!(shape, [_, columns] if columns.is_multiple_of(dtype.block_values()))
                || matches!(dtype, StoredType::Plain(Dtype::BF16))
        };
        [Some(self.0), smaller.map(StoredType::Blocks)]
            .into_iter()
            .flatten()
            .find(fits)
            .unwrap_or(StoredType::Plain(Dtype::F16))
    }
}

/// What a conversion wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Converted {
    /// Of the whole file.
    pub bytes: u64,
    /// Tensors of each type, as the file names it.
    pub tensors: BTreeMap<String, usize>,
}

/// A part of a model that is to be stored in another way.
pub struct Conversion {
    weights: Weights,
    part: Component,
    to: ConvertTo,
    tensors: Vec<layout::Tensor>,
}

impl Conversion {
    /// Of the part of the model at `path`: a directory in the diffusers layout, or a file of weights.
    ///
    /// # Errors
    /// The part is not there or none that is converted, or a file is not whole.
    pub fn new(path: &Path, part: Component, to: ConvertTo) -> Result<Self> {
        let weights = open(path, part)?;
        let tensors = match part {
            Component::Transformer => layout::transformer(&weights.stored()),
            Component::T5 => layout::t5(&weights.stored(), !to.is_fp8()),
            other => {
                return Err(Error::Model(format!("{other}: the transformer and T5 alone are converted")));
            }
        };
        let mut problems = layout::incomplete(&tensors);
        problems.extend(weights.stored().iter().filter(|stored| !stored.dtype.is_readable()).map(unreadable));
        check(&problems)?;
        Ok(Self { weights, part, to, tensors })
    }

    /// Values of all tensors.
    pub fn values(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.values() as u64).sum()
    }

    /// Writes the file, and tells `progress` how many more values are done.
    ///
    /// # Errors
    /// Files cannot be read or written, or `progress` failed.
    pub fn write(
        &self,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<Converted> {
        let entries = self.tensors.iter().map(|tensor| {
            let layout::Tensor { name, shape, .. } = tensor;
            TensorEntry::new(name, shape, self.to.of(name, shape))
        });
        let entries = entries.collect::<Result<Vec<_>>>()?;
        let header = if self.to.is_fp8() {
            headers::safetensors(&entries)?
        } else {
            headers::gguf(&entries, architecture(self.part), self.to.0)?
        };
        let alignment = if self.to.is_fp8() { 1 } else { headers::ALIGNMENT };
        out.write_all(&header).map_err(written)?;
        let mut converted = Converted { bytes: header.len() as u64, ..Converted::default() };
        for (tensor, entry) in self.tensors.iter().zip(&entries) {
            let mut bytes = encode(&tensor.read(&self.weights.root())?, entry.dtype)?;
            bytes.resize(bytes.len().next_multiple_of(alignment), 0);
            out.write_all(&bytes).map_err(written)?;
            converted.bytes += bytes.len() as u64;
            *converted.tensors.entry(entry.dtype.to_string()).or_default() += 1;
            progress(tensor.values() as u64).map_err(written)?;
        }
        Ok(converted)
    }
}

fn unreadable(TensorHeader { name, dtype, .. }: &TensorHeader) -> String {
    format!("wrong dtype: {name} is {dtype}, latentd reads {}", StoredType::READABLE)
}

fn architecture(part: Component) -> &'static str {
    if part == Component::T5 { "t5encoder" } else { "sd3" }
}

fn written(reason: io::Error) -> Error {
    Error::Io { path: "the converted file".into(), reason }
}

fn open(path: &Path, part: Component) -> Result<Weights> {
    let target = Target::host();
    if path.is_dir() {
        let files: ModelFiles = ModelSource::Directory(path.to_owned()).files()?;
        let stem = if part == Component::T5 { "model" } else { "diffusion_pytorch_model" };
        return Weights::open(&files, part.folder(), stem, &target);
    }
    let found = StoredPart::all(path, &Arc::new(Header::read(path)?));
    match found.into_iter().find(|found| found.part() == part) {
        Some(found) => Weights::open_part(found, &target),
        None => Err(Error::Model(format!("{} has not the tensors of the {part}", path.display()))),
    }
}

#[cfg(test)]
mod tests;
