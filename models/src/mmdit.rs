//! The multimodal diffusion transformer (diffusers `SD3Transformer2DModel`).
//!
//! A request is prepared once (text projection and every step's modulations), then each step is one forward.

mod block;
mod cache;
mod controlnet;
mod embed;
#[cfg(all(test, feature = "cuda"))]
mod fp8;
mod image_projection;
mod ip_adapter;
mod single;
mod stream;

use crate::Error;
use crate::config::TransformerConfig;
use crate::layers::Linear;
use crate::ops::Ops;
use crate::weights::Weights;
use block::{Block, Place};
pub(crate) use cache::FirstBlockCache;
use candle_core::{Result, Tensor};
pub(crate) use controlnet::{ControlNetModel, PreparedControl, Residuals};
use embed::{Conditioning, Patches};
pub(crate) use ip_adapter::{ImageTokens, IpAdapterModel, PreparedPrompt};
use stream::Stream;

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

/// What the products' inputs must be a multiple of in fp8.
const FP8_MULTIPLE: usize = 16;

/// What does not change within a request, or is known for all its steps beforehand.
pub(crate) struct Prepared {
    /// `[B, Lt, D]`.
    pub(crate) context: Tensor,
    /// `[S, B, R, D]`: the rows of every adaLN, block after block, image before text, then the last layer's two.
    pub(crate) modulations: Tensor,
}

/// What a request adds to the model in one step; by default nothing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Additions<'a> {
    /// A ControlNet's outputs.
    pub(crate) residuals: Option<&'a Residuals>,
    /// An IP-Adapter's image prompt.
    pub(crate) image: Option<&'a ImageTokens<'a>>,
}

impl Prepared {
    /// The prompt's rows alone, of two branches for `count` images.
    pub(crate) fn prompted(&self, count: usize) -> Result<Self> {
        Ok(Self {
            context: self.context.narrow(0, count, count)?,
            modulations: self.modulations.narrow(1, count, count)?,
        })
    }
}

impl Mmdit {
    pub(crate) fn load(weights: &Weights, config: &TransformerConfig) -> Result<Self> {
        let (root, width) = (weights.root(), config.width());
        if root.target().ops.fp8 && !width.is_multiple_of(FP8_MULTIPLE) {
            let why = format!(
                "fp8 needs a width in multiples of {FP8_MULTIPLE}, and this transformer is {width} wide"
            );
            return Err(Error::Fp8(why).carried());
        }
        let mut blocks: Vec<Block> = Vec::with_capacity(config.num_layers);
        for index in 0..config.num_layers {
            let first_row = blocks.last().map_or(0, Block::end_row);
            let place = Place { index, first_row, drops_text: index + 1 == config.num_layers };
            blocks.push(Block::load(&root.at("transformer_blocks").at(index), config, place)?);
        }
        let patch = config.patch_size * config.patch_size * config.out_channels();
        Ok(Self {
            patches: Patches::load(&root.at("pos_embed"), config)?,
            conditioning: Conditioning::load(&root.at("time_text_embed"), config)?,
            context: Linear::load(&root.at("context_embedder"), config.joint_attention_dim, width)?,
            blocks,
            norm_out: Linear::load_run_once(&root.at("norm_out.linear"), width, 2 * width)?,
            proj_out: Linear::load(&root.at("proj_out"), width, patch)?,
            config: config.clone(),
            ops: root.target().ops,
        })
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Text `[B, Lt, joint_attention_dim]` and pooled text `[B, pooled_projection_dim]` for these timesteps.
    pub(crate) fn prepare(&self, text: &Tensor, pooled: &Tensor, timesteps: &[f32]) -> Result<Prepared> {
        let conditioning = self.conditioning.forward(timesteps, pooled)?;
        let adalns = self.blocks.iter().flat_map(Block::adalns).chain([&self.norm_out]);
        let rows = adalns.map(|adaln| adaln.forward(&conditioning)).collect::<Result<Vec<_>>>()?;
        let (steps, batch, width) = conditioning.dims3()?;
        let modulations = Tensor::cat(&rows, 2)?.reshape((steps, batch, (), width))?;
        Ok(Prepared { context: self.context.forward(text)?, modulations })
    }

    /// Predicts the velocity at step `step` of `latents [B, C, H, W]`; the result has the same shape. With a `cache` the
    /// blocks after the first may be left out, and no ControlNet adds anything.
    pub(crate) fn forward(
        &self,
        latents: &Tensor,
        prepared: &Prepared,
        step: usize,
        cache: Option<&mut FirstBlockCache>,
        additions: Additions,
    ) -> Result<Tensor> {
        self.predict(latents, prepared, step, |patches, positions, context, modulations| match cache {
            None => self.forward_tokens(&[], additions, patches, positions, context, modulations),
            Some(cache) => {
                let tokens = (patches, positions, context);
                self.forward_tokens_cached(tokens, modulations, additions.image, cache)
            }
        })
    }

    /// [`Self::forward`] without some blocks, numbered from 0. What a ControlNet adds behind these is added nevertheless
    /// (transformer_sd3.py:303-326).
    pub(crate) fn forward_without(
        &self,
        latents: &Tensor,
        prepared: &Prepared,
        step: usize,
        left_out: &[usize],
        additions: Additions,
    ) -> Result<Tensor> {
        self.predict(latents, prepared, step, |patches, positions, context, modulations| {
            self.forward_tokens(left_out, additions, patches, positions, context, modulations)
        })
    }

    /// The velocity at step `step` of `latents [B, C, H, W]`, by what `tokens` makes of patches, positions, context and
    /// modulations, as in [`Self::forward_tokens`].
    fn predict(
        &self,
        latents: &Tensor,
        prepared: &Prepared,
        step: usize,
        tokens: impl FnOnce(&Tensor, &Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (_, _, height, width) = latents.dims4()?;
        let (positions, patches) = (self.positions(height, width)?, self.patches.patchify(latents)?);
        let modulations = prepared.modulations.get(step)?;
        let tokens = tokens(&patches, &positions, &prepared.context, &modulations)?;
        self.unpatchify(&tokens, height, width)
    }

    /// [`Self::forward`] between patches `[B, L, C*p*p]` (channel outermost) and patches `[B, L, p*p*C]` (channel
    /// innermost), with the positions of that size and one step's modulations `[B, R, D]`; without some blocks, and with
    /// what the request adds.
    pub(crate) fn forward_tokens(
        &self,
        left_out: &[usize],
        additions: Additions,
        patches: &Tensor,
        positions: &Tensor,
        context: &Tensor,
        modulations: &Tensor,
    ) -> Result<Tensor> {
        let mut image = Stream::new(self.patches.project(patches, positions)?);
        let mut text = Some(Stream::new(context.clone()));
        for (index, block) in self.blocks.iter().enumerate() {
            if !left_out.contains(&index) {
                let prompt = additions.image.map(|image| image.of_block(index));
                (image, text) = block.forward(image, text, modulations, prompt)?;
            }
            image = self.controlled(image, modulations, (additions.residuals, index))?;
        }
        self.output(image, modulations)
    }

    /// The last block's image to predicted patches `[B, L, p*p*C]`.
    fn output(&self, image: Stream, modulations: &Tensor) -> Result<Tensor> {
        let first_row = self.blocks.last().map_or(0, Block::end_row);
        let (shift, scale) = embed::SCALE_SHIFT;
        let image =
            image.normed(self.ops.unquantised(), modulations, (first_row + shift, first_row + scale))?;
        self.proj_out.forward_hidden(&image.1)
    }

    /// Positions of latents of this size, `[L, D]`.
    pub(crate) fn positions(&self, height: usize, width: usize) -> Result<Tensor> {
        self.patches.positions(height / self.config.patch_size, width / self.config.patch_size)
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
