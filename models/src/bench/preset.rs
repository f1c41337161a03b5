//! The shapes of the published models, for random weights.

use super::Synthetic;
use crate::ModelCard;
use crate::config::{SchedulerConfig, TransformerConfig, VaeConfig};

/// Pixels that a latent spans in each direction: the VAE of every SD3 model.
const VAE_FACTOR: usize = 8;

/// Its `transformer/config.json`.
pub(crate) fn transformer(model: Synthetic) -> TransformerConfig {
    let (layers, pos_embed_max_size, dual_attention_layers) = match model {
        Synthetic::Sd35Large => (38, 192, vec![]),
        Synthetic::Sd35Medium => (24, 384, (0..13).collect()),
    };
    let attention_head_dim = 64;
    TransformerConfig {
        attention_head_dim,
        // In both, as many heads as blocks.
        num_attention_heads: layers,
        num_layers: layers,
        patch_size: 2,
        in_channels: 16,
        out_channels: Some(16),
        joint_attention_dim: 4096,
        caption_projection_dim: layers * attention_head_dim,
        pooled_projection_dim: 2048,
        pos_embed_max_size,
        dual_attention_layers,
        qk_norm: Some("rms_norm".into()),
    }
}

/// Its `scheduler/scheduler_config.json`.
pub(crate) fn scheduler() -> serde_json::Result<SchedulerConfig> {
    serde_json::from_value(serde_json::json!({ "num_train_timesteps": 1000, "shift": 3.0 }))
}

/// The `vae/config.json` of all of them, as far as the decoder needs it.
pub(crate) fn vae() -> serde_json::Result<VaeConfig> {
    serde_json::from_value(serde_json::json!({
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 16,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
        "use_quant_conv": false,
        "use_post_quant_conv": false,
    }))
}

/// What it can generate.
pub(crate) fn card(model: Synthetic) -> ModelCard {
    let config = transformer(model);
    let size_multiple = config.patch_size * VAE_FACTOR;
    ModelCard {
        name: model.name().into(),
        size_multiple,
        max_side: config.pos_embed_max_size * size_multiple,
        trained: None,
        layers: config.num_layers,
        dual_attention: !config.dual_attention_layers.is_empty(),
    }
}
