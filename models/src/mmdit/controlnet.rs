//! A ControlNet (diffusers `SD3ControlNetModel`, controlnet_sd3.py:76-420): some blocks beside the transformer's, which see
//! a control image too, and whose outputs are added to the image stream behind the transformer's blocks.

use super::Mmdit;
use super::block::{Block, Place};
use super::embed::{Conditioning, Patches, patchify};
use super::single::SingleBlock;
use super::stream::Stream;
use crate::config::{ControlNetConfig, TransformerConfig};
use crate::layers::Linear;
use crate::ops::Ops;
use crate::weights::Weights;
use candle_core::{Result, Tensor};

/// A loaded ControlNet.
pub(crate) struct ControlNetModel {
    /// `None`: the transformer's own patches and positions.
    patches: Option<Patches>,
    /// Patches of the control image's latents to tokens.
    input: Linear,
    conditioning: Conditioning,
    blocks: Blocks,
    /// What becomes of each block's output.
    outputs: Vec<Linear>,
    config: ControlNetConfig,
    ops: Ops,
}

enum Blocks {
    /// Text and image, with what projects the text.
    Joint(Linear, Vec<Block>),
    Single(Vec<SingleBlock>),
}

/// What does not change within a request, or is known for all its steps beforehand.
pub(crate) struct PreparedControl {
    /// `[B, Lt, D]`, if the blocks read text.
    context: Option<Tensor>,
    /// `[S, B, R, D]`: the rows of every adaLN, block after block, image before text.
    modulations: Tensor,
    /// `[B, L, D]`: the tokens of the control image.
    condition: Tensor,
}

/// What a ControlNet adds in one step: `[B, L, D]` for each of its blocks.
pub(crate) struct Residuals(Vec<Tensor>);

impl PreparedControl {
    /// The prompt's rows alone, of two branches for `count` images.
    pub(crate) fn prompted(&self, count: usize) -> Result<Self> {
        let prompt = |rows: &Tensor| rows.narrow(0, count, count);
        Ok(Self {
            context: self.context.as_ref().map(prompt).transpose()?,
            modulations: self.modulations.narrow(1, count, count)?,
            condition: prompt(&self.condition)?,
        })
    }
}

impl Residuals {
    /// The prompt's rows alone, of two branches for `count` images.
    pub(crate) fn prompted(&self, count: usize) -> Result<Self> {
        let prompt = |rows: &Tensor| rows.narrow(0, count, count);
        Ok(Self(self.0.iter().map(prompt).collect::<Result<_>>()?))
    }

    /// What is added behind block `index` of `depth` (transformer_sd3.py:324-326); nothing behind the last.
    pub(super) fn behind(&self, index: usize, depth: usize) -> Option<&Tensor> {
        let interval = depth as f64 / self.0.len() as f64;
        (index + 1 < depth).then(|| self.0.get((index as f64 / interval) as usize)).flatten()
    }

    /// In the order of the ControlNet's blocks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tensor> {
        self.0.iter()
    }
}

impl ControlNetModel {
    pub(crate) fn load(weights: &Weights, config: &ControlNetConfig) -> Result<Self> {
        let (root, sizes) = (weights.root(), config.transformer());
        let (width, scope) = (sizes.width(), root.at("pos_embed"));
        let patches = match (config.use_pos_embed, &config.pos_embed_type) {
            (false, _) => None,
            (true, None) => Some(Patches::load_without_positions(&scope, &sizes)?),
            (true, Some(_)) => Some(Patches::load(&scope, &sizes)?),
        };
        let channels = config.in_channels + config.extra_conditioning_channels;
        let input = &root.at("pos_embed_input").at("proj");
        let outputs = root.at("controlnet_blocks");
        let outputs = (0..sizes.num_layers).map(|index| Linear::load(&outputs.at(index), width, width));
        Ok(Self {
            patches,
            input: Linear::patches(input, channels, sizes.patch_size, width)?,
            conditioning: Conditioning::load(&root.at("time_text_embed"), &sizes)?,
            blocks: Blocks::load(weights, config, &sizes)?,
            outputs: outputs.collect::<Result<_>>()?,
            config: config.clone(),
            ops: root.target().ops,
        })
    }

    pub(crate) fn config(&self) -> &ControlNetConfig {
        &self.config
    }

    /// The most patches a side that there are positions for; `None`: as many as the transformer has.
    pub(crate) fn max_side(&self) -> Option<usize> {
        self.patches.as_ref().map(Patches::max_side)
    }

    /// Text `[B, Lt, joint_attention_dim]`, pooled text `[B, pooled_projection_dim]` and the control image's latents
    /// `[B, C, H, W]` for these timesteps.
    pub(crate) fn prepare(
        &self,
        (text, pooled): (&Tensor, &Tensor),
        condition: &Tensor,
        timesteps: &[f32],
    ) -> Result<PreparedControl> {
        let pooled =
            if self.config.force_zeros_for_pooled_projection { pooled.zeros_like()? } else { pooled.clone() };
        let conditioning = self.conditioning.forward(timesteps, &pooled)?;
        let rows = self.blocks.adalns().into_iter().map(|adaln| adaln.forward(&conditioning));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let (steps, batch, width) = conditioning.dims3()?;
        Ok(PreparedControl {
            context: self.blocks.context().map(|context| context.forward(text)).transpose()?,
            modulations: Tensor::cat(&rows, 2)?.reshape((steps, batch, (), width))?,
            condition: self.input.forward(&patchify(condition, self.config.patch_size)?)?,
        })
    }

    /// What is added to `mmdit` at step `step` of `latents [B, C, H, W]`, times `scale`.
    pub(crate) fn forward(
        &self,
        mmdit: &Mmdit,
        latents: &Tensor,
        prepared: &PreparedControl,
        step: usize,
        scale: f64,
    ) -> Result<Residuals> {
        let mods = prepared.modulations.get(step)?;
        let tokens = self.patches.as_ref().unwrap_or(&mmdit.patches).forward(latents)?;
        let mut image = self.ops.add(&tokens, &prepared.condition)?;
        let mut residuals = Vec::with_capacity(self.outputs.len());
        let mut keep = |output: &Linear, image: &Tensor| {
            residuals.push((output.forward(image)? * scale)?);
            Ok::<_, candle_core::Error>(())
        };
        match (&self.blocks, &prepared.context) {
            (Blocks::Joint(_, blocks), Some(context)) => {
                let mut text = Some(Stream::new(context.clone()));
                for (block, output) in blocks.iter().zip(&self.outputs) {
                    let after;
                    (after, text) = block.forward(Stream::new(image), text, &mods, None)?;
                    image = after.sum(self.ops, &mods)?;
                    keep(output, &image)?;
                }
            }
            (Blocks::Single(blocks), _) => {
                for (block, output) in blocks.iter().zip(&self.outputs) {
                    image = block.forward(Stream::new(image), &mods)?.sum(self.ops, &mods)?;
                    keep(output, &image)?;
                }
            }
            (Blocks::Joint(..), None) => {
                candle_core::bail!("a ControlNet that was prepared without its text")
            }
        }
        Ok(Residuals(residuals))
    }
}

impl Blocks {
    fn load(weights: &Weights, config: &ControlNetConfig, sizes: &TransformerConfig) -> Result<Self> {
        let (root, mut first_row) = (weights.root(), 0);
        let scope = |index: usize| root.at("transformer_blocks").at(index);
        let Some(text) = config.joint_attention_dim else {
            let blocks = (0..sizes.num_layers).map(|index| {
                let block = SingleBlock::load(&scope(index), sizes, first_row)?;
                first_row = block.end_row();
                Ok(block)
            });
            return blocks.collect::<Result<_>>().map(Self::Single);
        };
        let blocks = (0..sizes.num_layers).map(|index| {
            let block = Block::load(&scope(index), sizes, Place { index, first_row, drops_text: false })?;
            first_row = block.end_row();
            Ok(block)
        });
        let blocks = blocks.collect::<Result<_>>()?;
        Ok(Self::Joint(Linear::load(&root.at("context_embedder"), text, sizes.width())?, blocks))
    }

    fn context(&self) -> Option<&Linear> {
        match self {
            Self::Joint(context, _) => Some(context),
            Self::Single(_) => None,
        }
    }

    /// The adaLN layers in the order of their rows.
    fn adalns(&self) -> Vec<&Linear> {
        match self {
            Self::Joint(_, blocks) => blocks.iter().flat_map(Block::adalns).collect(),
            Self::Single(blocks) => blocks.iter().map(SingleBlock::adaln).collect(),
        }
    }
}

impl Mmdit {
    /// The image stream behind block `index`, with what a ControlNet adds there.
    pub(super) fn controlled(
        &self,
        image: Stream,
        modulations: &Tensor,
        (residuals, index): (Option<&Residuals>, usize),
    ) -> Result<Stream> {
        let Some(added) = residuals.and_then(|residuals| residuals.behind(index, self.blocks.len())) else {
            return Ok(image);
        };
        Ok(Stream::new(self.ops.add(&image.sum(self.ops, modulations)?, added)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// The indices of transformer_sd3.py:325-326 for `int(index / (depth / count))`.
    #[test]
    fn residuals_are_spread_over_the_blocks_but_the_last() {
        let residuals = |count: usize| {
            let number = |index| Tensor::full(index as f32, 1, &Device::Cpu).expect("a number");
            Residuals((0..count).map(number).collect())
        };
        let added = |count: usize, depth: usize| -> Vec<usize> {
            let residuals = residuals(count);
            let number = |tensor: &Tensor| {
                tensor.to_dtype(DType::F32).and_then(|t| t.get(0)).and_then(|t| t.to_scalar::<f32>())
            };
            let behind = (0..depth).filter_map(|index| residuals.behind(index, depth));
            behind.map(|tensor| number(tensor).expect("a number") as usize).collect()
        };
        assert_eq!(added(2, 4), [0, 0, 1]);
        assert_eq!(added(2, 3), [0, 0]);
        assert_eq!(added(1, 2), [0]);
        assert_eq!(added(4, 3), [0, 1], "more than the transformer has");
        let large: Vec<usize> = (0..37).map(|index| index / 2).collect();
        assert_eq!(added(19, 38), large, "SD3.5 Large with Stability's");
    }
}
