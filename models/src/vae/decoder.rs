//! The VAE's decoder (diffusers `AutoencoderKL.decode`).

use super::blocks::{Middle, Resnet};
use crate::config::VaeConfig;
use crate::layers::{Conv2d, GroupNorm};
use crate::ops::Activation;
use crate::weights::{Scope, Weights};
use candle_core::{Result, Tensor};

/// Latents to pixels.
pub(crate) struct Decoder {
    post_quant: Option<Conv2d>,
    conv_in: Conv2d,
    mid: Middle,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    config: VaeConfig,
}

struct UpBlock {
    resnets: Vec<Resnet>,
    /// A convolution behind nearest-neighbour upsampling; the last block has none.
    upsample: Option<Conv2d>,
}

impl Decoder {
    pub(crate) fn load(weights: &Weights, config: &VaeConfig) -> Result<Self> {
        let (root, groups) = (weights.root(), config.norm_num_groups);
        weights.ignore(|name| name.starts_with("encoder.") || name.starts_with("quant_conv."));
        let (latent, scope) = (config.latent_channels, root.at("decoder"));
        let widths: Vec<usize> = config.block_out_channels.iter().rev().copied().collect();
        let (deepest, finest) = (widths[0], widths[widths.len() - 1]);
        let post_quant = || Conv2d::load(&root.at("post_quant_conv"), latent, latent, 1);
        let up = (0..widths.len()).map(|index| {
            let input = widths[index.saturating_sub(1)];
            let last = index + 1 == widths.len();
            UpBlock::load(&scope.at("up_blocks").at(index), (input, widths[index]), last, config)
        });
        Ok(Self {
            post_quant: config.use_post_quant_conv.then(post_quant).transpose()?,
            conv_in: Conv2d::load(&scope.at("conv_in"), latent, deepest, 3)?,
            mid: Middle::load(&scope.at("mid_block"), deepest, config)?,
            up: up.collect::<Result<_>>()?,
            norm_out: GroupNorm::load(&scope.at("conv_norm_out"), finest, groups)?,
            conv_out: Conv2d::load(&scope.at("conv_out"), finest, config.out_channels, 3)?,
            config: config.clone(),
        })
    }

    /// Pixels that a latent becomes, a side.
    pub(crate) fn factor(&self) -> usize {
        self.config.factor()
    }

    /// Denoised latents `[B, C, h, w]` to pixels `[B, 3, H, W]` in about -1..1. So many `halvings` leave out as many of the
    /// last doublings: about the same image, so much smaller.
    pub(crate) fn decode(&self, latents: &Tensor, halvings: usize) -> Result<Tensor> {
        let shift = self.config.shift_factor.unwrap_or(0.0);
        let mut x = ((latents / self.config.scaling_factor)? + shift)?;
        if let Some(conv) = &self.post_quant {
            x = conv.forward(&x)?;
        }
        x = self.mid.forward(&self.conv_in.forward(&x)?)?;
        // The last block doubles nothing.
        let doublings = self.up.len().saturating_sub(1 + halvings);
        for (index, block) in self.up.iter().enumerate() {
            x = block.forward(x, index < doublings)?;
        }
        self.conv_out.forward(&self.norm_out.forward(&x, Activation::Silu)?)
    }
}

impl UpBlock {
    fn load(scope: &Scope, (input, output): (usize, usize), last: bool, config: &VaeConfig) -> Result<Self> {
        let resnets = (0..=config.layers_per_block).map(|index| {
            let input = if index == 0 { input } else { output };
            Resnet::load(&scope.at("resnets").at(index), input, output, config.norm_num_groups)
        });
        let upsample = || Conv2d::load(&scope.at("upsamplers.0.conv"), output, output, 3);
        Ok(Self { resnets: resnets.collect::<Result<_>>()?, upsample: (!last).then(upsample).transpose()? })
    }

    fn forward(&self, mut x: Tensor, doubling: bool) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        match &self.upsample {
            Some(conv) if doubling => conv.forward_upsampled(&x),
            Some(conv) => conv.forward(&x),
            None => Ok(x),
        }
    }
}
