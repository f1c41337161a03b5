//! The multimodal diffusion transformer (diffusers `SD3Transformer2DModel`).
//!
//! A request is prepared once (text projection and every step's modulations), then each step is one forward.

mod block;
mod embed;

use crate::config::TransformerConfig;
use crate::layers::{Linear, Ops};
use crate::weights::Weights;
use block::{Block, BlockModulations};
use candle_core::{Result, Tensor};
use embed::{Conditioning, Patches};

/// The transformer of any SD3 or SD3.5 size.
pub(crate) struct Mmdit {
    patches: Patches,
    conditioning: Conditioning,
    context: Linear,
    blocks: Vec<Block>,
    norm_out: Linear,
    proj_out: Linear,
    config: TransformerConfig,
    ops: Ops,
}

/// What does not change within a request, or is known for all its steps beforehand.
pub(crate) struct Prepared {
    /// `[B, Lt, D]`.
    context: Tensor,
    blocks: Vec<BlockModulations>,
    /// `[S, B, 2, D]`: scale, shift.
    out: Tensor,
}

impl Mmdit {
    pub(crate) fn load(weights: &Weights, config: &TransformerConfig) -> Result<Self> {
        let (root, width) = (weights.root(), config.width());
        let blocks = (0..config.num_layers)
            .map(|index| Block::load(&root.at("transformer_blocks").at(index), config, index))
            .collect::<Result<_>>()?;
        let patch = config.patch_size * config.patch_size * config.out_channels();
        Ok(Self {
            patches: Patches::load(&root.at("pos_embed"), config)?,
            conditioning: Conditioning::load(&root.at("time_text_embed"), config)?,
            context: Linear::load(&root.at("context_embedder"), config.joint_attention_dim, width)?,
            blocks,
            norm_out: Linear::load(&root.at("norm_out.linear"), width, 2 * width)?,
            proj_out: Linear::load(&root.at("proj_out"), width, patch)?,
            config: config.clone(),
            ops: root.target().ops,
        })
    }

    /// Text `[B, Lt, joint_attention_dim]` and pooled text `[B, pooled_projection_dim]` for these timesteps.
    pub(crate) fn prepare(&self, text: &Tensor, pooled: &Tensor, timesteps: &[f32]) -> Result<Prepared> {
        let conditioning = self.conditioning.forward(timesteps, pooled)?;
        let modulate = |linear: &Linear| embed::modulations(linear, &conditioning, self.config.width());
        let blocks = self.blocks.iter().map(|block| block.modulations(&modulate)).collect::<Result<_>>()?;
        Ok(Prepared { context: self.context.forward(text)?, blocks, out: modulate(&self.norm_out)? })
    }

    /// Predicts the velocity at step `step` of `latents [B, C, H, W]`; the result has the same shape.
    pub(crate) fn forward(&self, latents: &Tensor, prepared: &Prepared, step: usize) -> Result<Tensor> {
        let (_, _, height, width) = latents.dims4()?;
        let mut image = self.patches.forward(latents)?;
        let mut text = Some(prepared.context.clone());
        for (block, mods) in self.blocks.iter().zip(&prepared.blocks) {
            (image, text) = block.forward(image, text, &mods.at(step)?)?;
        }
        let image = self.ops.layer_norm_modulate(&image, &prepared.out.get(step)?, embed::SCALE_SHIFT)?;
        self.unpatchify(&self.proj_out.forward(&image)?, height, width)
    }

    /// `[B, h*w, p*p*C]` to `[B, C, H, W]`.
    fn unpatchify(&self, x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
        let (patch, channels) = (self.config.patch_size, self.config.out_channels());
        let (batch, rows, columns) = (x.dim(0)?, height / patch, width / patch);
        x.reshape(&[batch, rows, columns, patch, patch, channels][..])?
            .permute([0, 5, 1, 3, 2, 4])?
            .reshape((batch, channels, height, width))
    }
}
