//! Which tensors a converted file has, and which of the model's tensors each is made of.

use crate::checkpoint::{NamingScheme, RowOrder, TensorLocation};
use crate::weight_file::{TensorHeader, stored_t5_name};
use crate::weights::Scope;
use candle_core::Result;
use std::collections::BTreeMap;

/// A tensor of the converted file.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// The model's tensors, one below the other, by their place.
    sources: BTreeMap<usize, String>,
    /// The shape of one of them.
    source_shape: Vec<usize>,
    order: RowOrder,
}

impl Tensor {
    pub(super) fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its values, f32.
    pub(super) fn read(&self, root: &Scope) -> Result<candle_core::Tensor> {
        let sources = self.sources.values().map(|name| root.tensor(name, &self.source_shape));
        let whole = candle_core::Tensor::cat(&sources.collect::<Result<Vec<_>>>()?, 0)?;
        match (self.order, self.shape.first()) {
            (RowOrder::Swapped, Some(rows)) => {
                let half = |from| whole.narrow(0, from, rows / 2);
                candle_core::Tensor::cat(&[half(rows / 2)?, half(0)?], 0)
            }
            _ => Ok(whole),
        }
    }
}

/// The transformer in the original layout; one that is stored so already keeps its names.
pub(super) fn transformer(stored: &[TensorHeader]) -> Vec<Tensor> {
    let block = |stored: &TensorHeader| {
        stored.name.strip_prefix("transformer_blocks.")?.split('.').next()?.parse::<usize>().ok()
    };
    let blocks = stored.iter().filter_map(block).max().map_or(0, |last| last + 1);
    let names = NamingScheme::Mmdit(blocks);
    let mut tensors = BTreeMap::<String, Tensor>::new();
    for TensorHeader { name, shape, .. } in stored {
        let TensorLocation::Stored(target, order) = names.find(name) else { continue };
        let place = if let RowOrder::Third(place) = order { place } else { 0 };
        let tensor = tensors.entry(target.clone()).or_insert_with(|| Tensor {
            name: target,
            shape: order.whole(shape),
            sources: BTreeMap::new(),
            source_shape: shape.clone(),
            order,
        });
        tensor.sources.insert(place, name.clone());
    }
    tensors.into_values().collect()
}

/// T5 with llama.cpp's names in GGUF, with transformers' in safetensors.
pub(super) fn t5(stored: &[TensorHeader], gguf: bool) -> Vec<Tensor> {
    // Both names hold the same table.
    let (shared, embedding) = ("shared.weight", "encoder.embed_tokens.weight");
    let has_shared = stored.iter().any(|stored| stored.name == shared);
    let is_twice = |name: &str| has_shared && name == embedding;
    let target = |name: &str| match gguf {
        true => stored_t5_name(if name == embedding { shared } else { name }),
        false => name.to_owned(),
    };
    let tensor = |TensorHeader { name, shape, .. }: &TensorHeader| Tensor {
        name: target(name),
        shape: shape.clone(),
        sources: BTreeMap::from([(0, name.clone())]),
        source_shape: shape.clone(),
        order: RowOrder::All,
    };
    stored.iter().filter(|stored| !is_twice(&stored.name)).map(tensor).collect()
}

/// What tensors lack of which some is there.
pub(super) fn incomplete(tensors: &[Tensor]) -> Vec<String> {
    let lacks = |tensor: &&Tensor| matches!(tensor.order, RowOrder::Third(_)) && tensor.sources.len() != 3;
    let name = |tensor: &Tensor| format!("missing: one of q, k and v, which {} is made of", tensor.name);
    tensors.iter().filter(lacks).map(name).collect()
}
