//! Whether an adapter fits a model, by the headers of the model's files: nothing of the model is loaded.

use super::adapter::Adapter;
use super::layer_map::LayerMap;
use super::{limit, named};
use crate::checkpoint::transformer_layers;
use crate::config::Configs;
use crate::low_rank::{Network, Site, Slot};
use crate::target::Target;
use crate::weights::Weights;
use crate::{Lora, ModelSource, Result};
use candle_core::DType;

/// Folders of text encoders.
const ENCODERS: [(&str, Network); 3] =
    [("text_encoder", Network::ClipL), ("text_encoder_2", Network::ClipG), ("text_encoder_3", Network::T5)];

/// Reads an adapter and checks that it fits a model, whose T5 is left out unless `has_t5`.
///
/// # Errors
/// [`crate::Error::Adapter`], or the model's files cannot be read.
pub fn check_lora(source: &ModelSource, has_t5: bool, lora: &Lora) -> Result<()> {
    let files = source.files()?;
    let configs = Configs::read(&files)?;
    let open = |part: &str, stem: &str| Weights::open(&files, part, stem, &Target::host());
    let weights = open("transformer", "diffusion_pytorch_model")?;
    let blocks = configs.transformer.num_layers;
    let mut networks = vec![(Network::Transformer, sites(&weights, transformer_layers(blocks)))];
    let most = limit(weights.parameters(), DType::F32.size_in_bytes() as u64);
    for (part, network) in ENCODERS {
        if network != Network::T5 || (has_t5 && configs.index.has_t5()) {
            let weights = open(part, "model")?;
            let stored = weights.stored();
            let names = stored.iter().filter_map(|tensor| tensor.name.strip_suffix(".weight"));
            networks.push((network, sites(&weights, names.map(str::to_owned))));
        }
    }
    let layers = networks.iter().map(|(network, sites)| (*network, sites.as_slice()));
    let layers = LayerMap::new(layers, blocks);
    Adapter::read(&lora.path, &layers, DType::F32, most).map(drop).map_err(|error| named(error, None, lora))
}

/// The linear layers of these names, of those that there are.
fn sites(weights: &Weights, names: impl Iterator<Item = String>) -> Vec<Site> {
    let site = |name: String| {
        let (output, input) = weights.matrix(&format!("{name}.weight"))?;
        Some(Site { names: vec![name], input, output, slot: Slot::default() })
    };
    names.filter_map(site).collect()
}
