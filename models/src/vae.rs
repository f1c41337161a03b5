//! The VAE's decoder (diffusers `AutoencoderKL.decode`).

use crate::config::VaeConfig;
use crate::layers::{Activation, Conv2d, GroupNorm, Linear, Ops};
use crate::weights::{Scope, Weights};
use candle_core::{Result, Tensor};

/// Latents to pixels.
pub(crate) struct Decoder {
    post_quant: Option<Conv2d>,
    conv_in: Conv2d,
    mid: (Resnet, Option<Attention>, Resnet),
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    config: VaeConfig,
}

struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    ops: Ops,
}

/// Single-head attention over all positions.
struct Attention {
    norm: GroupNorm,
    qkv: Linear,
    out: Linear,
    ops: Ops,
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
        let mid = scope.at("mid_block");
        let resnet = |index: usize| Resnet::load(&mid.at("resnets").at(index), deepest, deepest, groups);
        let attention = || Attention::load(&mid.at("attentions.0"), deepest, groups);
        let post_quant = || Conv2d::load(&root.at("post_quant_conv"), latent, latent, 1);
        let up = (0..widths.len()).map(|index| {
            let input = widths[index.saturating_sub(1)];
            let last = index + 1 == widths.len();
            UpBlock::load(&scope.at("up_blocks").at(index), (input, widths[index]), last, config)
        });
        Ok(Self {
            post_quant: config.use_post_quant_conv.then(post_quant).transpose()?,
            conv_in: Conv2d::load(&scope.at("conv_in"), latent, deepest, 3)?,
            mid: (resnet(0)?, config.mid_block_add_attention.then(attention).transpose()?, resnet(1)?),
            up: up.collect::<Result<_>>()?,
            norm_out: GroupNorm::load(&scope.at("conv_norm_out"), finest, groups)?,
            conv_out: Conv2d::load(&scope.at("conv_out"), finest, config.out_channels, 3)?,
            config: config.clone(),
        })
    }

    /// Denoised latents `[B, C, h, w]` to pixels `[B, 3, H, W]` in about -1..1. So many `halvings` leave out as many of the
    /// last doublings: about the same picture, so much smaller.
    pub(crate) fn decode(&self, latents: &Tensor, halvings: usize) -> Result<Tensor> {
        let shift = self.config.shift_factor.unwrap_or(0.0);
        let mut x = ((latents / self.config.scaling_factor)? + shift)?;
        if let Some(conv) = &self.post_quant {
            x = conv.forward(&x)?;
        }
        let (first, attention, second) = &self.mid;
        x = first.forward(&self.conv_in.forward(&x)?)?;
        if let Some(attention) = attention {
            x = attention.forward(&x)?;
        }
        x = second.forward(&x)?;
        // The last block doubles nothing.
        let doublings = self.up.len().saturating_sub(1 + halvings);
        for (index, block) in self.up.iter().enumerate() {
            x = block.forward(x, index < doublings)?;
        }
        self.conv_out.forward(&self.norm_out.forward(&x, Activation::Silu)?)
    }
}

impl Resnet {
    fn load(scope: &Scope, input: usize, output: usize, groups: usize) -> Result<Self> {
        let shortcut = || Conv2d::load(&scope.at("conv_shortcut"), input, output, 1);
        Ok(Self {
            norm1: GroupNorm::load(&scope.at("norm1"), input, groups)?,
            conv1: Conv2d::load(&scope.at("conv1"), input, output, 3)?,
            norm2: GroupNorm::load(&scope.at("norm2"), output, groups)?,
            conv2: Conv2d::load(&scope.at("conv2"), output, output, 3)?,
            shortcut: (input != output).then(shortcut).transpose()?,
            ops: scope.target().ops,
        })
    }

    /// `[B, input, H, W]` to `[B, output, H, W]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.conv1.forward(&self.norm1.forward(x, Activation::Silu)?)?;
        let y = self.conv2.forward(&self.norm2.forward(&y, Activation::Silu)?)?;
        match &self.shortcut {
            Some(conv) => self.ops.add(&conv.forward(x)?, &y),
            None => self.ops.add(x, &y),
        }
    }
}

impl Attention {
    fn load(scope: &Scope, channels: usize, groups: usize) -> Result<Self> {
        let qkv = ["to_q", "to_k", "to_v"].map(|name| scope.at(name));
        Ok(Self {
            norm: GroupNorm::load(&scope.at("group_norm"), channels, groups)?,
            qkv: Linear::stacked(&qkv, channels, channels)?,
            out: Linear::load(&scope.at("to_out.0"), channels, channels)?,
            ops: scope.target().ops,
        })
    }

    /// `[B, C, H, W]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let normed = self.norm.forward(x, Activation::None)?;
        let tokens = normed.permute((0, 2, 3, 1))?.reshape((batch, height * width, channels))?;
        let qkv = self.ops.joint_qkv(&self.qkv.forward(&tokens)?, None, None, 1)?;
        let y = self.out.forward(&self.ops.attention(&qkv)?)?;
        let y = y.reshape((batch, height, width, channels))?.permute((0, 3, 1, 2))?;
        self.ops.add(x, &y)
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
