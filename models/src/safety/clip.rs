//! The CLIP vision model whose embedding is compared with unsafe concepts (diffusers `StableDiffusionSafetyChecker`).

use super::clip_config::ClipConfig;
use super::concepts::Concepts;
use crate::layers::Linear;
use crate::vision::{TensorNames, Tower};
use crate::weights::Weights;
use candle_core::{DType, Result, Tensor};

const NAMES: TensorNames = TensorNames {
    patches: "embeddings.patch_embedding",
    patches_bias: false,
    class: Some("embeddings.class_embedding"),
    positions: "embeddings.position_embedding.weight",
    leading: (0, 0),
    first_norm: Some("pre_layrnorm"),
    layers: "encoder.layers",
    norms: ["layer_norm1", "layer_norm2"],
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    out: "self_attn.out_proj",
    mlp: ["mlp.fc1", "mlp.fc2"],
    last_norm: Some("post_layernorm"),
};

/// Pixels to what they show of each concept.
pub(super) struct Clip {
    tower: Tower,
    projection: Linear,
    pub(super) concepts: Concepts,
}

/// Where the vision model is: transformers 5 writes `vision_model.`, earlier versions wrote it twice.
fn place(weights: &Weights) -> &'static str {
    let at = "vision_model.";
    if weights.has(&format!("{at}{}.weight", NAMES.patches)) { at } else { "vision_model.vision_model." }
}

impl Clip {
    pub(super) fn load(weights: &Weights, config: &ClipConfig) -> Result<Self> {
        ignore_ids(weights);
        let (root, shape) = (weights.root(), config.shape());
        let tower = root.at(place(weights).trim_end_matches('.'));
        let projection = root.at("visual_projection");
        Ok(Self {
            tower: Tower::load(&tower, &NAMES, &shape)?,
            projection: Linear::load_no_bias(&projection, shape.hidden, config.projection_dim)?,
            concepts: Concepts::load(&root, config.projection_dim)?,
        })
    }

    /// Notes what [`Self::load`] would not find, without loading anything.
    pub(super) fn expect(weights: &Weights, config: &ClipConfig) {
        ignore_ids(weights);
        let shape = config.shape();
        Tower::expect(weights, place(weights), &NAMES, &shape);
        weights.expect("visual_projection.weight", &[config.projection_dim, shape.hidden]);
        Concepts::expect(weights, config.projection_dim);
    }

    /// Pixels `[3, H, W]` f32 on the CPU to the cosines to the special concepts and to the unsafe ones.
    pub(super) fn cosines(&self, pixels: &Tensor) -> Result<(Vec<f32>, Vec<f32>)> {
        let embedding = self.projection.forward(&self.tower.class(pixels)?)?;
        Ok(self.concepts.cosines(&embedding.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?))
    }

    /// See [`Concepts::margin`].
    pub(super) fn margin(&self, pixels: &Tensor) -> Result<f32> {
        Ok(self.concepts.margin(&self.cosines(pixels)?))
    }
}

/// A buffer that counts from 0, which transformers stored until 4.31.
fn ignore_ids(weights: &Weights) {
    weights.ignore(|name| name.ends_with(".embeddings.position_ids"));
}
