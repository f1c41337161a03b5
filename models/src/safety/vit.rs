//! The vision transformer that classifies images (transformers `ViTForImageClassification`).

use super::vit_config::VitConfig;
use crate::layers::Linear;
use crate::vision::{Shape, TensorNames, Tower};
use crate::weights::Weights;
use candle_core::{DType, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

const NAMES: TensorNames = TensorNames {
    patches: "embeddings.patch_embeddings.projection",
    patches_bias: true,
    class: Some("embeddings.cls_token"),
    positions: "embeddings.position_embeddings",
    leading: (2, 1),
    first_norm: None,
    layers: "encoder.layer",
    norms: ["layernorm_before", "layernorm_after"],
    qkv: ["attention.attention.query", "attention.attention.key", "attention.attention.value"],
    out: "attention.output.dense",
    mlp: ["intermediate.dense", "output.dense"],
    last_norm: Some("layernorm"),
};

/// Pixels to the probability of one label.
pub(super) struct Vit {
    tower: Tower,
    classifier: Linear,
    unsafe_label: usize,
}

impl Vit {
    pub(super) fn load(weights: &Weights, config: &VitConfig) -> Result<Self> {
        let (root, shape): (_, Shape) = (weights.root(), config.shape());
        Ok(Self {
            tower: Tower::load(&root.at("vit"), &NAMES, &shape)?,
            classifier: Linear::load(&root.at("classifier"), shape.hidden, config.labels())?,
            unsafe_label: config.unsafe_label().map_err(candle_core::Error::msg)?,
        })
    }

    /// Notes what [`Self::load`] would not find, without loading anything.
    pub(super) fn expect(weights: &Weights, config: &VitConfig) {
        let shape = config.shape();
        Tower::expect(weights, "vit.", &NAMES, &shape);
        weights.expect("classifier.weight", &[config.labels(), shape.hidden]);
        weights.expect("classifier.bias", &[config.labels()]);
    }

    /// Pixels `[3, H, W]` f32 on the CPU to one logit a label, `[labels]` f32.
    pub(super) fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        self.classifier.forward(&self.tower.class(pixels)?)?.flatten_all()?.to_dtype(DType::F32)
    }

    /// The probability that the image is unsafe; NaN if a logit is not finite, of which a probability may be made.
    pub(super) fn probability(&self, pixels: &Tensor) -> Result<f32> {
        let logits = self.logits(pixels)?;
        if logits.to_vec1::<f32>()?.iter().any(|logit| !logit.is_finite()) {
            return Ok(f32::NAN);
        }
        Ok(softmax_last_dim(&logits)?.to_vec1::<f32>()?[self.unsafe_label])
    }
}
