//! What a part's weights take, from the headers of its files.

use crate::load_options::Streamed;
use crate::weight_file::{StoredType, TensorHeader};
use crate::{DType, Device};
use safetensors::Dtype;

/// How a part's tensors are kept once they are loaded.
#[derive(Clone, Copy)]
pub(super) struct LoadedFormat {
    /// Bytes of an element.
    pub(super) element: u64,
    /// Whether the products of the transformer's blocks are in fp8.
    pub(super) fp8: bool,
    /// Whether they are in the processor's memory, and products are computed there.
    pub(super) on_host: bool,
    /// Which matrices stay in their files.
    pub(super) streamed: Streamed,
}

impl LoadedFormat {
    /// Of a safety checker, which is in f32 whatever the model is in.
    pub(super) const F32: Self = Self { element: 4, fp8: false, on_host: false, streamed: Streamed::Nothing };

    pub(super) fn new(dtype: DType, device: Device) -> Self {
        let on_host = device == Device::Cpu;
        let fp8 = dtype == DType::Fp8 && !on_host;
        let element = if dtype == DType::F32 { 4 } else { 2 };
        Self { element, fp8, on_host, streamed: Streamed::Nothing }
    }

    /// The same where these matrices stay in their files.
    pub(super) fn streaming(self, streamed: Streamed) -> Self {
        Self { streamed, ..self }
    }

    /// Bytes of a loaded tensor.
    pub(super) fn bytes(self, tensor: &TensorHeader) -> u64 {
        match tensor.shape[..] {
            _ if self.streams(tensor) => 0,
            // One byte a value, and an f32 scale for each output (`Linear::quantised`).
            [outputs, inputs] if self.is_fp8(tensor) => outputs as u64 * (inputs as u64 + 4),
            // A table stays in the processor's memory (`Embedding`).
            _ if has_blocks(tensor) && is_table(&tensor.name) && !self.on_host => 0,
            _ if has_blocks(tensor) => tensor.bytes,
            _ => tensor.elements() * self.element,
        }
    }

    /// Bytes that a product with a loaded tensor takes in addition: quantized values are dequantized for it, and a matrix
    /// that stays in its file is read. On the processor it then lies in the layout of its products too, at most in f32. Of a
    /// table only rows are read.
    pub(super) fn product(self, tensor: &TensorHeader) -> u64 {
        if is_table(&tensor.name) {
            return 0;
        }
        let (streams, quantized) = (self.streams(tensor), has_blocks(tensor));
        let values = |bytes: u64| tensor.elements() * bytes;
        let scaling = if streams { scaling(tensor) } else { 0 };
        scaling
            + match self.on_host {
                true if streams || quantized => values(self.element + 4),
                true => 0,
                // With the next one on its way (`weights/upload_ahead.rs`); in fp8 it is there once more.
                false if streams => {
                    let uploaded = if quantized { tensor.bytes } else { values(self.element) };
                    let dequantized = if quantized { values(self.element) } else { 0 };
                    2 * uploaded + dequantized + if self.fp8 { values(2) } else { 0 }
                }
                // The products of image and text are computed at the same time.
                false if quantized && !self.is_fp8(tensor) => values(2 * self.element),
                false => 0,
            }
    }

    /// Whether a tensor stays in its file (`Weights::take_matrix`).
    fn streams(self, tensor: &TensorHeader) -> bool {
        let is_matrix = tensor.shape.len() == 2 && !tensor.name.ends_with("position_embedding.weight");
        is_matrix
            && match self.streamed {
                Streamed::Nothing => false,
                Streamed::ReadOnce => is_modulation(&tensor.name),
                Streamed::Everything => true,
            }
    }

    /// Whether a weight is multiplied in fp8 (`Linear::quantised`).
    fn is_fp8(self, tensor: &TensorHeader) -> bool {
        self.fp8 && tensor.shape.len() == 2 && is_block_product(&tensor.name)
    }

    /// Bytes that a loaded tensor is made of and that are given back after: fp8 is made of bf16.
    pub(super) fn loading(self, tensor: &TensorHeader) -> u64 {
        if self.streams(tensor) {
            return 0;
        }
        let blocks = if has_blocks(tensor) { tensor.bytes } else { 0 };
        let made = if self.is_fp8(tensor) { blocks + tensor.elements() * self.element } else { 0 };
        made + scaling(tensor)
    }
}

/// Bytes of a tensor in f32 before and after scales multiply it (`Resolved::read_scaled`).
fn scaling(tensor: &TensorHeader) -> u64 {
    match tensor.dtype {
        StoredType::Scaled(_) | StoredType::Plain(Dtype::F8_E4M3 | Dtype::F8_E5M2) => 8 * tensor.elements(),
        StoredType::Plain(_) | StoredType::Blocks(_) => 0,
    }
}

/// Whether a matrix stays in blocks of quantized values; rows that are no whole blocks are dequantized at load.
fn has_blocks(tensor: &TensorHeader) -> bool {
    let StoredType::Blocks(_) = tensor.dtype else { return false };
    matches!(tensor.shape[..], [_, columns] if tensor.dtype.bytes(columns).is_some())
}

/// Whether a weight of the transformer is one that `Linear::quantised` turns into fp8: attention and MLP of a block, not
/// its modulations; in diffusers' names or in a checkpoint's.
fn is_block_product(name: &str) -> bool {
    let is_diffusers = name.starts_with("transformer_blocks.") && !name.contains(".norm");
    is_diffusers || name.starts_with("joint_blocks.") && !name.contains(".adaLN_modulation.")
}

/// Whether a weight of the transformer is that of an adaLN layer (`Linear::load_run_once`), in either layout.
fn is_modulation(name: &str) -> bool {
    ["norm1.linear.", "norm1_context.linear.", "norm_out.linear.", "adaLN_modulation."]
        .iter()
        .any(|layer| name.contains(layer))
}

/// Whether a matrix is a table of vectors, one for each token (`Embedding`), in the names of transformers or of GGUF files.
fn is_table(name: &str) -> bool {
    ["shared.weight", "embed_tokens.weight", "token_embedding.weight", "token_embd.weight"]
        .iter()
        .any(|table| name.ends_with(table))
}
