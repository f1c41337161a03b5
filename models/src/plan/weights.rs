//! What a part's weights take, from the headers of its files.

use crate::weight_file::{StoredType, TensorHeader};
use crate::{DType, Device};

/// How a part's tensors are kept once they are loaded.
#[derive(Clone, Copy)]
pub(super) struct LoadedFormat {
    /// Bytes of an element.
    pub(super) element: u64,
    /// Whether the products of the transformer's blocks are in fp8.
    pub(super) fp8: bool,
    /// Whether matrices in blocks of quantized values stay so.
    pub(super) quantized: bool,
}

impl LoadedFormat {
    pub(super) fn new(dtype: DType, device: Device) -> Self {
        let quantized = device == Device::Cpu;
        let fp8 = dtype == DType::Fp8 && !quantized;
        Self { element: if dtype == DType::F32 { 4 } else { 2 }, fp8, quantized }
    }

    /// Bytes of a loaded tensor.
    pub(super) fn bytes(self, tensor: &TensorHeader) -> u64 {
        match tensor.shape[..] {
            // One byte a value, and an f32 scale for each output (`Linear::quantised`).
            [outputs, inputs] if self.fp8 && is_block_product(&tensor.name) => {
                outputs as u64 * (inputs as u64 + 4)
            }
            _ if self.keeps_blocks(tensor) => tensor.bytes,
            _ => tensor.elements() * self.element,
        }
    }

    /// Bytes that a product with a loaded tensor takes in addition: quantized values are dequantized for it, and then lie in
    /// the layout of the processor's products too, at most in f32.
    pub(super) fn product(self, tensor: &TensorHeader) -> u64 {
        if self.keeps_blocks(tensor) { tensor.elements() * (self.element + 4) } else { 0 }
    }

    fn keeps_blocks(self, tensor: &TensorHeader) -> bool {
        let StoredType::Blocks(_) = tensor.dtype else { return false };
        // Rows that are no whole blocks are dequantized at load.
        self.quantized && matches!(tensor.shape[..], [_, columns] if tensor.dtype.bytes(columns).is_some())
    }

    /// Bytes that a loaded tensor is made of and that are given back after: fp8 is made of bf16.
    pub(super) fn loading(self, tensor: &TensorHeader) -> u64 {
        if self.fp8 && is_block_product(&tensor.name) { tensor.elements() * self.element } else { 0 }
    }
}

/// Whether a weight of the transformer is one that `Linear::quantised` turns into fp8: attention and MLP of a block, not
/// its modulations; in diffusers' names or in a checkpoint's.
fn is_block_product(name: &str) -> bool {
    let is_diffusers = name.starts_with("transformer_blocks.") && !name.contains(".norm");
    is_diffusers || name.starts_with("joint_blocks.") && !name.contains(".adaLN_modulation.")
}
