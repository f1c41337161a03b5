//! Which layers of the model a module of an adapter means, in each format of keys.

use crate::checkpoint::{NamingScheme, RowOrder, TensorLocation};
use crate::low_rank::{Network, Site};
use std::collections::HashMap;

/// What the names of a network's modules begin with, points written as `_`. The longest that fits need not be the right
/// one: a module is what a prefix and a known layer's name make.
const PREFIXES: [(&str, Network); 20] = [
    // diffusers, Comfy, kohya, OneTrainer, PEFT by itself, and files of the transformer alone.
    ("transformer_", Network::Transformer),
    ("diffusion_model_", Network::Transformer),
    ("model_diffusion_model_", Network::Transformer),
    ("lora_unet_", Network::Transformer),
    ("lora_transformer_", Network::Transformer),
    ("base_model_model_", Network::Transformer),
    ("", Network::Transformer),
    ("text_encoder_", Network::ClipL),
    ("lora_te1_", Network::ClipL),
    ("lora_te_", Network::ClipL),
    ("clip_l_transformer_", Network::ClipL),
    ("text_encoders_clip_l_transformer_", Network::ClipL),
    ("text_encoder_2_", Network::ClipG),
    ("lora_te2_", Network::ClipG),
    ("clip_g_transformer_", Network::ClipG),
    ("text_encoders_clip_g_transformer_", Network::ClipG),
    ("text_encoder_3_", Network::T5),
    ("lora_te3_", Network::T5),
    ("t5xxl_transformer_", Network::T5),
    ("text_encoders_t5xxl_transformer_", Network::T5),
];

/// A projection that a module of an adapter changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) network: Network,
    /// Number of the layer in its network.
    pub(crate) site: usize,
    /// Number of the projection in the layer.
    pub(crate) index: usize,
    /// The rows of the adapter's product that are the projection's.
    pub(crate) rows: RowOrder,
}

/// All layers of a model that adapters can change.
pub(crate) struct LayerMap {
    modules: HashMap<(Network, String), Vec<Target>>,
    /// Input and output of each layer's projections.
    sizes: HashMap<(Network, usize), (usize, usize)>,
    has_t5: bool,
}

impl LayerMap {
    /// Of these networks, of which the transformer has so many blocks.
    pub(crate) fn new<'a>(networks: impl Iterator<Item = (Network, &'a [Site])>, blocks: usize) -> Self {
        let mut map = Self { modules: HashMap::new(), sizes: HashMap::new(), has_t5: false };
        for (network, sites) in networks {
            map.has_t5 |= network == Network::T5;
            for (number, site) in sites.iter().enumerate() {
                map.sizes.insert((network, number), (site.input, site.output));
                for (index, name) in site.names.iter().enumerate() {
                    map.add(name, &Target { network, site: number, index, rows: RowOrder::All }, blocks);
                }
            }
        }
        map
    }

    /// Adds a projection under diffusers' name and, where it has another, that of the original layout.
    fn add(&mut self, name: &str, target: &Target, blocks: usize) {
        let network = target.network;
        let own = underscored(name);
        if network == Network::Transformer
            && let TensorLocation::Stored(original, rows) =
                NamingScheme::Mmdit(blocks).find(&format!("{name}.weight"))
        {
            let original = underscored(original.trim_end_matches(".weight"));
            if original != own {
                let target = Target { rows, ..target.clone() };
                self.modules.entry((network, original)).or_default().push(target);
            }
        }
        self.modules.insert((network, own), vec![target.clone()]);
    }

    /// What a module of an adapter changes.
    ///
    /// # Errors
    /// Says that there is no such layer.
    pub(super) fn find(&self, module: &str) -> Result<&[Target], &'static str> {
        let name = underscored(module);
        let networks =
            || PREFIXES.iter().filter_map(|(prefix, network)| Some((*network, name.strip_prefix(prefix)?)));
        match networks().find_map(|(network, rest)| self.modules.get(&(network, rest.to_owned()))) {
            Some(targets) => Ok(targets),
            None if !self.has_t5 && networks().any(|(network, _)| network == Network::T5) => {
                Err("it changes T5, without which this model runs")
            }
            None => Err("unknown"),
        }
    }

    /// Inputs and outputs of an adapter's product for these targets of one module.
    pub(super) fn sizes(&self, targets: &[Target]) -> Option<(usize, usize)> {
        let first = targets.first()?;
        let (input, output) = *self.sizes.get(&(first.network, first.site))?;
        Some((input, *first.rows.whole(&[output]).first()?))
    }
}

/// kohya's names are those of modules, with `_` for points.
fn underscored(name: &str) -> String {
    name.replace('.', "_")
}
