//! What sizes a config file may name. They are far beyond any published model; what they leave out would overflow
//! or fill the memory before the first tensor shows that it cannot be.

use super::{ClipConfig, SchedulerConfig, T5Config, TransformerConfig, VaeConfig};
use std::ops::RangeInclusive;

/// Layers, blocks.
pub(super) const LAYERS: RangeInclusive<usize> = 1..=1024;
/// Channels, features, heads.
pub(super) const WIDTH: RangeInclusive<usize> = 1..=1 << 16;
/// Channels of the widest head for which there is a kernel on every device (kernels/src/cuda/attention.rs).
pub(crate) const WIDEST_HEAD: usize = 512;
/// Words of a vocabulary.
const VOCABULARY: RangeInclusive<usize> = 1..=1 << 22;
/// Patches of an image's side, or tokens of a text.
pub(crate) const POSITIONS: RangeInclusive<usize> = 1..=1 << 13;
/// Latents of a patch's side, and layers in a block of the VAE.
pub(super) const FEW: RangeInclusive<usize> = 1..=64;

/// Refuses the first size that is out of its range.
pub(super) fn sizes<'a>(
    all: impl IntoIterator<Item = (&'a str, usize, RangeInclusive<usize>)>,
) -> Result<(), String> {
    match all.into_iter().find(|(_, value, range)| !range.contains(value)) {
        Some((name, value, range)) => {
            Err(format!("{name} is {value}, and latentd takes {} to {}", range.start(), range.end()))
        }
        None => Ok(()),
    }
}

/// Refuses the first number that is not one to compute with: a factor or an epsilon.
fn numbers<'a>(all: impl IntoIterator<Item = (&'a str, f64)>) -> Result<(), String> {
    match all.into_iter().find(|(_, value)| !(value.is_finite() && value.abs() < 1e6)) {
        Some((name, value)) => Err(format!("{name} is {value}, which is no number to compute with")),
        None => Ok(()),
    }
}

impl TransformerConfig {
    pub(super) fn check_sizes(&self) -> Result<(), String> {
        sizes([
            ("num_layers", self.num_layers, LAYERS),
            ("num_attention_heads", self.num_attention_heads, WIDTH),
            ("attention_head_dim", self.attention_head_dim, WIDTH),
            ("patch_size", self.patch_size, FEW),
            ("in_channels", self.in_channels, WIDTH),
            ("out_channels", self.out_channels(), WIDTH),
            ("joint_attention_dim", self.joint_attention_dim, WIDTH),
            ("caption_projection_dim", self.caption_projection_dim, WIDTH),
            ("pooled_projection_dim", self.pooled_projection_dim, WIDTH),
            ("pos_embed_max_size", self.pos_embed_max_size, POSITIONS),
            ("the length of dual_attention_layers", self.dual_attention_layers.len(), 0..=*LAYERS.end()),
        ])
    }
}

impl VaeConfig {
    pub(super) fn check_sizes(&self) -> Result<(), String> {
        let blocks = self.block_out_channels.iter().map(|channels| ("block_out_channels", *channels, WIDTH));
        sizes([
            ("in_channels", self.in_channels, WIDTH),
            ("latent_channels", self.latent_channels, WIDTH),
            ("layers_per_block", self.layers_per_block, FEW),
            ("norm_num_groups", self.norm_num_groups, WIDTH),
            ("the length of block_out_channels", self.block_out_channels.len(), 1..=8),
        ])?;
        sizes(blocks)?;
        numbers([
            ("scaling_factor", self.scaling_factor),
            ("shift_factor", self.shift_factor.unwrap_or_default()),
        ])
    }
}

impl SchedulerConfig {
    pub(super) fn check_sizes(&self) -> Result<(), String> {
        sizes([("num_train_timesteps", self.num_train_timesteps, 1..=1_000_000)])?;
        numbers([("shift", self.shift)])
    }
}

impl ClipConfig {
    /// Whether the sizes are those of a text encoder.
    pub(crate) fn check(&self) -> Result<(), String> {
        sizes([
            ("vocab_size", self.vocab_size, VOCABULARY),
            ("hidden_size", self.hidden_size, WIDTH),
            ("intermediate_size", self.intermediate_size, WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS),
            ("num_attention_heads", self.num_attention_heads, WIDTH),
            ("max_position_embeddings", self.max_position_embeddings, POSITIONS),
            ("projection_dim", self.projection_dim, WIDTH),
        ])?;
        numbers([("layer_norm_eps", self.layer_norm_eps)])
    }
}

impl T5Config {
    /// Whether the sizes are those of a text encoder.
    pub(crate) fn check(&self) -> Result<(), String> {
        let buckets = self.relative_attention_num_buckets;
        sizes([
            ("vocab_size", self.vocab_size, VOCABULARY),
            ("d_model", self.d_model, WIDTH),
            ("d_kv", self.d_kv, WIDTH),
            ("d_ff", self.d_ff, WIDTH),
            ("num_layers", self.num_layers, LAYERS),
            ("num_heads", self.num_heads, WIDTH),
            // Each direction has buckets for exact distances and some for the rest.
            ("relative_attention_num_buckets", buckets, 4..=*POSITIONS.end()),
            ("relative_attention_max_distance", self.relative_attention_max_distance, buckets..=1 << 20),
        ])?;
        numbers([("layer_norm_epsilon", self.layer_norm_epsilon)])
    }
}
