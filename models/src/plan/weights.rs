//! What a part's weights take, told by the headers of its files.

use crate::weights::Stored;
use crate::{DType, Device};

/// How a part's tensors are kept once they are loaded.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    /// Bytes of an element.
    pub(super) element: u64,
    /// Whether the products of the transformer's blocks are in fp8.
    pub(super) fp8: bool,
}

impl Kept {
    pub(super) fn new(dtype: DType, device: Device) -> Self {
        let fp8 = dtype == DType::Fp8 && device != Device::Cpu;
        Self { element: if dtype == DType::F32 { 4 } else { 2 }, fp8 }
    }

    /// Bytes of a loaded tensor.
    pub(super) fn bytes(self, tensor: &Stored) -> u64 {
        match tensor.shape[..] {
            // One byte a value, and an f32 scale for each output (`Linear::quantised`).
            [outputs, inputs] if self.fp8 && is_block_product(&tensor.name) => {
                outputs as u64 * (inputs as u64 + 4)
            }
            _ => elements(tensor) * self.element,
        }
    }

    /// Bytes that are held while a tensor is loaded and given back after: the tensor as it is stored; all three where q, k
    /// and v are copied into one; and what fp8 is made of.
    pub(super) fn loading(self, tensor: &Stored) -> u64 {
        let whole = elements(tensor) * self.element;
        let stacked = if is_stacked(&tensor.name) { 3 * whole } else { 0 };
        tensor.bytes + if self.fp8 { stacked + whole } else { stacked }
    }
}

pub(super) fn elements(tensor: &Stored) -> u64 {
    tensor.shape.iter().map(|side| *side as u64).product()
}

/// Whether a weight of the transformer is one that `Linear::quantised` turns into fp8: attention and MLP of a block, not
/// its modulations. In the names of either layout.
fn is_block_product(name: &str) -> bool {
    let is_block = name.starts_with("transformer_blocks.") || name.starts_with("joint_blocks.");
    is_block && !name.contains(".norm") && !name.contains(".adaLN")
}

/// Whether a weight is one of three that become one.
fn is_stacked(name: &str) -> bool {
    const PROJECTIONS: [&str; 13] = [
        "to_q",
        "to_k",
        "to_v",
        "add_q_proj",
        "add_k_proj",
        "add_v_proj", // MMDiT, VAE
        "q_proj",
        "k_proj",
        "v_proj",
        "q",
        "k",
        "v", // CLIP, T5
        "query",
    ];
    let layer = name.rsplit('.').nth(1).unwrap_or_default();
    PROJECTIONS.contains(&layer)
}
