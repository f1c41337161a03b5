//! What both halves of the VAE are made of.

use crate::config::VaeConfig;
use crate::layers::{Conv2d, GroupNorm, Linear};
use crate::ops::{Activation, Ops};
use crate::weights::Scope;
use candle_core::{Result, Tensor};

pub(super) struct Resnet {
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

/// The deepest block (diffusers `UNetMidBlock2D`).
pub(super) struct Middle {
    first: Resnet,
    attention: Option<Attention>,
    second: Resnet,
}

impl Resnet {
    pub(super) fn load(scope: &Scope, input: usize, output: usize, groups: usize) -> Result<Self> {
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
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
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
        // diffusers' own names until 0.17 (`_convert_deprecated_attention_blocks`).
        let is_old = scope.at("query").has("weight");
        let ([q, k, v], out) = match is_old {
            true => (["query", "key", "value"], "proj_attn"),
            false => (["to_q", "to_k", "to_v"], "to_out.0"),
        };
        Ok(Self {
            norm: GroupNorm::load(&scope.at("group_norm"), channels, groups)?,
            qkv: Linear::stacked(&[q, k, v].map(|name| scope.at(name)), channels, channels)?,
            out: Linear::load(&scope.at(out), channels, channels)?,
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

impl Middle {
    pub(super) fn load(scope: &Scope, channels: usize, config: &VaeConfig) -> Result<Self> {
        let groups = config.norm_num_groups;
        let resnet = |index: usize| Resnet::load(&scope.at("resnets").at(index), channels, channels, groups);
        let attention = || Attention::load(&scope.at("attentions.0"), channels, groups);
        Ok(Self {
            first: resnet(0)?,
            attention: config.mid_block_add_attention.then(attention).transpose()?,
            second: resnet(1)?,
        })
    }

    /// `[B, C, H, W]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.first.forward(x)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x)?;
        }
        self.second.forward(&x)
    }
}
