//! The layers models are made of, and the one place that chooses between a fused op and plain candle.
//!
//! [`Ops`] is that choice. Models never name a kernel, so one switch turns every fusion off.

mod plain;

use crate::weights::Scope;
use candle_core::{Result, Tensor};
use latentd_kernels as fused;
pub(crate) use latentd_kernels::Activation;
use latentd_kernels::Conv2dSpec;
pub(crate) use plain::softmax;

/// Fused ops, or the same formulas in plain candle for bisecting an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ops {
    pub(crate) fused: bool,
}

impl Ops {
    /// LayerNorm without affine, then adaLN: `[B, L, D]` with rows `shift` and `scale` of `mods [B, N, D]`.
    pub(crate) fn layer_norm_modulate(
        self,
        x: &Tensor,
        mods: &Tensor,
        (shift, scale): (usize, usize),
    ) -> Result<Tensor> {
        let op = if self.fused { fused::layer_norm_modulate } else { plain::layer_norm_modulate };
        op(x, mods, shift, scale, NORM_EPS)
    }

    /// `x + mods[:, gate] * y`, all `[B, L, D]`.
    pub(crate) fn gated_add(self, x: &Tensor, y: &Tensor, mods: &Tensor, gate: usize) -> Result<Tensor> {
        let op = if self.fused { fused::gated_add } else { plain::gated_add };
        op(x, y, mods, gate)
    }

    /// Image `[B, Li, 3D]` and text `[B, Lt, 3D]` projections, q and k normalised per head by `norms`
    /// (`[4, Dh]`: q, k, text q, text k; `[2, Dh]` without text), as `[B, Li + Lt, 3, H, Dh]`.
    pub(crate) fn joint_qkv(
        self,
        image: &Tensor,
        text: Option<&Tensor>,
        norms: Option<&Tensor>,
        heads: usize,
    ) -> Result<Tensor> {
        let op = if self.fused { fused::joint_qkv } else { plain::joint_qkv };
        op(image, text, norms, heads, NORM_EPS)
    }

    /// Softmax attention of `[B, L, 3, H, Dh]` to `[B, L, H * Dh]`.
    pub(crate) fn attention(self, qkv: &Tensor) -> Result<Tensor> {
        if self.fused { fused::attention(qkv) } else { plain::attention(qkv) }
    }
}

/// Epsilon of every norm inside the MMDiT (diffusers `JointTransformerBlock`).
const NORM_EPS: f64 = 1e-6;

/// `y = act(x w^T + b)`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    ops: Ops,
}

impl Linear {
    /// `weight [output, input]`, `bias [output]`.
    pub(crate) fn load(scope: &Scope, input: usize, output: usize) -> Result<Self> {
        Self::stacked(std::slice::from_ref(scope), input, output)
    }

    /// Without bias.
    pub(crate) fn load_no_bias(scope: &Scope, input: usize, output: usize) -> Result<Self> {
        Self::stacked_no_bias(std::slice::from_ref(scope), input, output)
    }

    /// Several projections (at least one) of one input as one: outputs side by side, each `output` wide.
    pub(crate) fn stacked(scopes: &[Scope], input: usize, output: usize) -> Result<Self> {
        let biases: Vec<_> = scopes.iter().map(|s| s.tensor("bias", &[output])).collect::<Result<_>>()?;
        let bias = Some(Tensor::cat(&biases, 0)?);
        Ok(Self { bias, ..Self::stacked_no_bias(scopes, input, output)? })
    }

    /// [`Self::stacked`] without bias.
    pub(crate) fn stacked_no_bias(scopes: &[Scope], input: usize, output: usize) -> Result<Self> {
        let weights: Vec<_> =
            scopes.iter().map(|s| s.tensor("weight", &[output, input])).collect::<Result<_>>()?;
        let ops = scopes[0].target().ops;
        Ok(Self { weight: Tensor::cat(&weights, 0)?.contiguous()?, bias: None, ops })
    }

    /// A convolution that tiles its input (`weight [output, channels, patch, patch]`) as a projection of
    /// flattened patches `[.., channels * patch * patch]`.
    pub(crate) fn patches(scope: &Scope, channels: usize, patch: usize, output: usize) -> Result<Self> {
        let weight =
            scope.tensor("weight", &[output, channels, patch, patch])?.flatten_from(1)?.contiguous()?;
        let bias = Some(scope.tensor("bias", &[output])?);
        Ok(Self { weight, bias, ops: scope.target().ops })
    }

    /// `[.., input]` to `[.., output]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_act(x, Activation::None)
    }

    /// With an activation after the bias.
    pub(crate) fn forward_act(&self, x: &Tensor, act: Activation) -> Result<Tensor> {
        let op = if self.ops.fused { fused::linear } else { plain::linear };
        op(x, &self.weight, self.bias.as_ref(), act)
    }
}

/// LayerNorm with weight and bias over the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
    ops: Ops,
}

impl LayerNorm {
    pub(crate) fn load(scope: &Scope, width: usize, eps: f64) -> Result<Self> {
        let (weight, bias) = (scope.tensor("weight", &[width])?, scope.tensor("bias", &[width])?);
        Ok(Self { weight: weight.contiguous()?, bias: bias.contiguous()?, eps, ops: scope.target().ops })
    }

    /// `[.., D]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let op = if self.ops.fused { fused::layer_norm } else { plain::layer_norm };
        op(x, &self.weight, &self.bias, self.eps)
    }
}

/// Root-mean-square norm with weight over the last dimension.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
    ops: Ops,
}

impl RmsNorm {
    pub(crate) fn load(scope: &Scope, width: usize, eps: f64) -> Result<Self> {
        let weight = scope.tensor("weight", &[width])?.contiguous()?;
        Ok(Self { weight, eps, ops: scope.target().ops })
    }

    /// `[.., D]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let op = if self.ops.fused { fused::rms_norm } else { plain::rms_norm };
        op(x, &self.weight, self.eps)
    }
}

/// A convolution with stride 1 that keeps the size: kernel 1 or 3, zero padding.
#[derive(Debug)]
pub(crate) struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    ops: Ops,
}

impl Conv2d {
    /// `weight [output, input, kernel, kernel]`, `bias [output]`.
    pub(crate) fn load(scope: &Scope, input: usize, output: usize, kernel: usize) -> Result<Self> {
        let weight = scope.tensor("weight", &[output, input, kernel, kernel])?.contiguous()?;
        let bias = scope.tensor("bias", &[output])?.contiguous()?;
        Ok(Self { weight, bias, ops: scope.target().ops })
    }

    /// `[B, input, H, W]` to `[B, output, H, W]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, false)
    }

    /// Nearest-neighbour upsampling by two, then the convolution: `[B, input, H, W]` to `[B, output, 2H, 2W]`.
    pub(crate) fn forward_upsampled(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, true)
    }

    fn run(&self, x: &Tensor, upsample: bool) -> Result<Tensor> {
        let padding = self.weight.dim(3)? / 2;
        let op = if self.ops.fused { fused::conv2d } else { plain::conv2d };
        op(x, &self.weight, Some(&self.bias), Conv2dSpec { stride: 1, padding, upsample })
    }
}

/// GroupNorm with weight and bias over `[B, C, H, W]`.
#[derive(Debug)]
pub(crate) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    ops: Ops,
}

impl GroupNorm {
    pub(crate) fn load(scope: &Scope, channels: usize, groups: usize) -> Result<Self> {
        let weight = scope.tensor("weight", &[channels])?.contiguous()?;
        let bias = scope.tensor("bias", &[channels])?.contiguous()?;
        Ok(Self { weight, bias, groups, ops: scope.target().ops })
    }

    /// With the activation fused behind it.
    pub(crate) fn forward(&self, x: &Tensor, act: Activation) -> Result<Tensor> {
        let op = if self.ops.fused { fused::group_norm } else { plain::group_norm };
        op(x, &self.weight, &self.bias, self.groups, NORM_EPS, act)
    }
}
