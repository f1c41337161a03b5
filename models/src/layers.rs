//! The layers models are made of, and the one place that chooses between a fused op and plain candle.
//!
//! [`Ops`] is that choice. Models never name a kernel, so one switch turns every fusion off.

mod linear;
mod plain;
mod profile;

use crate::weights::Scope;
use candle_core::{Result, Tensor, bail};
use latentd_kernels as fused;
pub(crate) use latentd_kernels::Activation;
use latentd_kernels::Conv2dSpec;
pub(crate) use linear::{Hidden, Linear, mlp};
pub(crate) use plain::softmax;
pub use profile::ProfileRow;
pub(crate) use profile::profile;
use profile::timed;

/// Fused ops, or the same formulas in plain candle for bisecting an error.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ops {
    pub(crate) fused: bool,
    /// Whether the transformer's blocks multiply in fp8: only fused, and only on a GPU.
    pub(crate) fp8: bool,
    /// Whether two pieces of work may run at the same time: only fused, in bf16 or fp8 on a GPU.
    pub(crate) two_streams: bool,
}

impl Ops {
    /// The same in the storage's own precision.
    pub(crate) fn unquantised(self) -> Self {
        Self { fp8: false, ..self }
    }

    /// Plain candle on the processor.
    pub(crate) const PLAIN: Self = Self { fused: false, fp8: false, two_streams: false };

    /// Two pieces of work that read nothing of each other, on the device of `x`; `side` is the smaller one and made of
    /// this type's ops and linear layers alone.
    pub(crate) fn fork_join<A, B>(
        self,
        x: &Tensor,
        work: impl FnOnce() -> Result<A>,
        side: impl FnOnce() -> Result<B>,
    ) -> Result<(A, B)> {
        #[cfg(feature = "cuda")]
        if self.two_streams {
            return fused::cuda::fork_join(x.device(), work, side);
        }
        let _ = x;
        Ok((work()?, side()?))
    }

    /// LayerNorm without affine, then adaLN: `[B, L, D]` with rows `shift` and `scale` of `mods [B, R, D]`.
    pub(crate) fn layer_norm_modulate(
        self,
        x: &Tensor,
        mods: &Tensor,
        (shift, scale): (usize, usize),
    ) -> Result<Hidden> {
        timed(
            x,
            || "layer norm, modulate".into(),
            || {
                #[cfg(feature = "cuda")]
                if self.fp8 {
                    let normed = fused::layer_norm_modulate_rowwise(x, mods, shift, scale, NORM_EPS)?;
                    return Ok(Hidden::Rowwise(normed));
                }
                let op = if self.fused { fused::layer_norm_modulate } else { plain::layer_norm_modulate };
                op(x, mods, shift, scale, NORM_EPS).map(Hidden::Plain)
            },
        )
    }

    /// `x + mods[:, gate] * y`, all `[B, L, D]`.
    pub(crate) fn gated_add(self, x: &Tensor, y: &Tensor, mods: &Tensor, gate: usize) -> Result<Tensor> {
        let op = if self.fused { fused::gated_add } else { plain::gated_add };
        timed(x, || "gated add".into(), || op(x, y, mods, gate))
    }

    /// [`Self::gated_add`], and [`Self::layer_norm_modulate`] of the sum with rows `(shift, scale)`.
    pub(crate) fn gated_add_modulate(
        self,
        x: &Tensor,
        y: &Tensor,
        mods: &Tensor,
        gate: usize,
        rows: (usize, usize),
    ) -> Result<(Tensor, Hidden)> {
        timed(
            x,
            || "gated add, layer norm, modulate".into(),
            || {
                #[cfg(feature = "cuda")]
                if self.fp8 {
                    let (sum, normed) = fused::gated_add_modulate_rowwise(x, y, mods, gate, rows, NORM_EPS)?;
                    return Ok((sum, Hidden::Rowwise(normed)));
                }
                let (sum, normed) = if self.fused {
                    fused::gated_add_modulate(x, y, mods, gate, rows, NORM_EPS)?
                } else {
                    let sum = plain::gated_add(x, y, mods, gate)?;
                    let normed = plain::layer_norm_modulate(&sum, mods, rows.0, rows.1, NORM_EPS)?;
                    (sum, normed)
                };
                Ok((sum, Hidden::Plain(normed)))
            },
        )
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
        timed(image, || "q, k norms, joint layout".into(), || op(image, text, norms, heads, NORM_EPS))
    }

    /// Softmax attention of `[B, L, 3, H, Dh]` to `[B, L, H * Dh]`.
    pub(crate) fn attention(self, qkv: &Tensor) -> Result<Tensor> {
        let op = if self.fused { fused::attention } else { plain::attention };
        timed(qkv, || format!("attention {:?}", qkv.dims()), || op(qkv))
    }

    /// Tokens `[B, L, D]` and the positions `[L, D]` of each.
    pub(crate) fn add_positions(self, x: Tensor, positions: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self.fused && x.device().is_cuda() {
            fused::cuda::latents::add_positions(&x, positions)?;
            return Ok(x);
        }
        x.broadcast_add(positions)
    }

    /// The sum of two feature maps `[B, C, H, W]`.
    pub(crate) fn add(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if self.fused && a.device().is_cuda() && a.stride() == b.stride() {
            return fused::cuda::elementwise::add(a, b);
        }
        a + b
    }
}

/// The activation that transformers calls `name`.
pub(crate) fn activation(name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => bail!("hidden_act \"{other}\" is not supported: only quick_gelu, gelu and gelu_new"),
    }
}

/// Epsilon of every norm inside the MMDiT (diffusers `JointTransformerBlock`).
const NORM_EPS: f64 = 1e-6;

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
        let op = if self.ops.fused { fused::conv2d } else { plain::conv2d };
        op(x, &self.weight, Some(&self.bias), spec)
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
