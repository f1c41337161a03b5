//! The layers that models are made of: operations with their weights.

mod linear;

use crate::ops::{Activation, Conv2dSpec, Ops};
use crate::weights::{Matrix, MatrixUse, Scope};
use candle_core::{DType, Device, Result, Tensor, bail};
pub(crate) use linear::{Linear, mlp};

/// The activation that transformers calls `name`.
pub(crate) fn activation(name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => bail!("hidden_act \"{other}\" is not supported: only quick_gelu, gelu and gelu_new"),
    }
}

/// A table of vectors, one for each token.
pub(crate) struct Embedding {
    table: Matrix,
    width: usize,
    dtype: DType,
    device: Device,
}

impl Embedding {
    /// `weight [tokens, width]`.
    pub(crate) fn load(scope: &Scope, tokens: usize, width: usize) -> Result<Self> {
        let scopes = std::slice::from_ref(scope);
        let table = Scope::matrix(scopes, "weight", [tokens, width], MatrixUse::Rows)?;
        let target = scope.target();
        Ok(Self { table, width, dtype: target.dtype, device: target.device.clone() })
    }

    /// `B` rows of equally many ids to `[B, L, width]`.
    pub(crate) fn forward(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        let (length, flat) = (ids.first().map_or(0, Vec::len), ids.concat());
        let rows = match &self.table {
            Matrix::Dense(table) => table.index_select(&Tensor::new(flat, &self.device)?, 0)?,
            // The table stays in the processor's memory.
            Matrix::Quantized(table) => table.rows(&flat, self.dtype)?.to_device(&self.device)?,
            Matrix::Streamed(table) => table.rows(&flat)?,
        };
        rows.reshape((ids.len(), length, self.width))
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
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
        self.ops.layer_norm(x, &self.weight, &self.bias, self.eps)
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
        self.ops.rms_norm(x, &self.weight, self.eps)
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
        // GPUs convolve channels-last: the same tensor, in memory `[O, k, k, C]`.
        let weight = if weight.device().is_cuda() {
            weight.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2))?
        } else {
            weight
        };
        let bias = scope.tensor("bias", &[output])?.contiguous()?;
        Ok(Self { weight, bias, ops: scope.target().ops })
    }

    /// `[B, input, H, W]` to `[B, output, H, W]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, self.same())
    }

    /// Nearest-neighbour upsampling by two, then the convolution: `[B, input, H, W]` to `[B, output, 2H, 2W]`.
    pub(crate) fn forward_upsampled(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, Conv2dSpec { upsample: true, ..self.same() })
    }

    /// Every second pixel, with one row and column of zeros behind the last (diffusers `Downsample2D` of a VAE):
    /// `[B, input, H, W]` to `[B, output, H/2, W/2]`.
    pub(crate) fn forward_downsampled(&self, x: &Tensor) -> Result<Tensor> {
        let padded = x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?.contiguous()?;
        self.run(&padded, Conv2dSpec { stride: 2, padding: 0, upsample: false })
    }

    /// An output for each pixel.
    fn same(&self) -> Conv2dSpec {
        Conv2dSpec { stride: 1, padding: self.weight.dims()[3] / 2, upsample: false }
    }

    fn run(&self, x: &Tensor, spec: Conv2dSpec) -> Result<Tensor> {
        self.ops.conv2d(x, &self.weight, &self.bias, spec)
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
        self.ops.group_norm(x, &self.weight, &self.bias, self.groups, act)
    }
}
