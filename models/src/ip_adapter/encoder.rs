//! The image encoder of IP-Adapters (transformers `SiglipVisionModel`): an image prompt to the features of its patches.

use super::encoder_config::EncoderConfig;
use crate::vision::{Preprocessor, Processing, Shape, TensorNames, Tower};
use crate::weight_file::TensorHeader;
use crate::weights::Weights;
use crate::{Image, Result};
use candle_core::Tensor;

const NAMES: TensorNames = TensorNames {
    patches: "embeddings.patch_embedding",
    patches_bias: true,
    class: None,
    positions: "embeddings.position_embedding.weight",
    leading: (0, 0),
    first_norm: None,
    layers: "encoder.layers",
    norms: ["layer_norm1", "layer_norm2"],
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    out: "self_attn.out_proj",
    mlp: ["mlp.fc1", "mlp.fc2"],
    last_norm: None,
};

/// Where whole SigLIPs, and vision models of transformers before 5, have the tensors.
const BELOW: &str = "vision_model.";

/// What comes after the features, and a SigLIP's text half.
const UNREAD: [&str; 4] = ["post_layernorm.", "head.", "text_model.", "logit_"];

/// A loaded image encoder.
pub(super) struct ImageEncoder {
    preprocessor: Preprocessor,
    tower: Tower,
}

impl ImageEncoder {
    pub(super) fn load(weights: &Weights, config: &EncoderConfig, processing: Processing) -> Result<Self> {
        ignore_the_rest(weights, config);
        let scope = match place(weights) {
            "" => weights.root(),
            place => weights.root().at(place.trim_end_matches('.')),
        };
        let tower = Tower::load(&scope, &NAMES, &read_layers(config))?;
        Ok(Self { preprocessor: Preprocessor::new(processing), tower })
    }

    /// Notes what [`Self::load`] would not find, without loading anything.
    pub(super) fn expect(weights: &Weights, config: &EncoderConfig) {
        ignore_the_rest(weights, config);
        Tower::expect(weights, place(weights), &NAMES, &read_layers(config));
    }

    /// Values of the tensors that are loaded, of the last layer too.
    pub(super) fn values(weights: &Weights) -> u64 {
        let place = place(weights);
        let is_loaded = |tensor: &&TensorHeader| {
            let name = tensor.name.strip_prefix(place);
            name.is_some_and(|name| name.starts_with("embeddings.") || name.starts_with("encoder."))
        };
        weights.stored().iter().filter(is_loaded).map(TensorHeader::elements).sum()
    }

    /// `hidden_states[-2]` of an image, `[1, T, E]` in the model's precision (pipeline_stable_diffusion_3.py:713).
    pub(super) fn features(&self, image: &Image) -> Result<Tensor> {
        Ok(self.tower.tokens(&self.preprocessor.pixels(image)?)?)
    }
}

fn place(weights: &Weights) -> &'static str {
    if weights.has(&format!("{BELOW}{}.weight", NAMES.patches)) { BELOW } else { "" }
}

/// All layers but the last, whose output nothing reads.
fn read_layers(config: &EncoderConfig) -> Shape {
    let shape = config.shape();
    Shape { layers: shape.layers - 1, ..shape }
}

/// The last layer, what comes after it, and a buffer that counts from 0.
fn ignore_the_rest(weights: &Weights, config: &EncoderConfig) {
    let last = format!("{}.{}.", NAMES.layers, config.shape().layers - 1);
    weights.ignore(|name| {
        let below = name.strip_prefix(BELOW).unwrap_or(name);
        let is_unread = UNREAD.iter().any(|start| below.starts_with(start));
        is_unread || below.starts_with(&last) || below.ends_with("position_ids")
    });
}
