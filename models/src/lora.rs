//! LoRA adapters: untrusted files of low-rank products that are added to the model's linear layers.
//!
//! [`AdapterStore`] reads files and keeps the last ones; [`AdaptedLayers`] sets what layers add, without a change of their
//! weights. diffusers' PEFT layers compute the same: the base layer's product and the adapter's, summed.

mod adapter;
mod check;
mod keys;
mod layer_map;
mod layers;
mod peft;
mod store;
#[cfg(test)]
mod tests;

pub use check::check_lora;
pub(crate) use layer_map::LayerMap;
pub(crate) use layers::AdaptedLayers;
pub(crate) use store::{AdapterSet, AdapterStore};

use crate::error::one_line;
use crate::{Error, Lora};

/// Most adapters of a request.
pub const MAX_LORAS: usize = 32;

/// Share of the transformer's size that the adapters of a request may have together, and those that are kept.
const SHARE: u64 = 16;

/// Bytes that they may have in any case.
const LEAST: u64 = 64 << 20;

/// The error of an adapter with its name, and its number in a request.
fn named(error: Error, index: Option<usize>, lora: &Lora) -> Error {
    match error {
        Error::Adapter { why, .. } => {
            Error::Adapter { index, why: format!("the LoRA {}: {why}", one_line(&lora.name, 300)) }
        }
        other => other,
    }
}

/// Bytes that the adapters of a request may have, and those that are kept, if the transformer has so many values, of
/// `element` bytes each.
pub(crate) fn limit(parameters: u64, element: u64) -> u64 {
    (parameters * element / SHARE).max(LEAST)
}
