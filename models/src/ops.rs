//! The operations that layers are made of, and the one place that chooses between a fused one and plain candle.
//!
//! [`Ops`] is that choice. Models never name a kernel, so one switch turns every fusion off.

mod plain;
mod profile;

use candle_core::{Result, Tensor};
use latentd_kernels as fused;
pub use latentd_kernels::Isa as CpuIsa;
pub(crate) use latentd_kernels::{Activation, Conv2dSpec};
pub use profile::ProfileRow;
pub(crate) use profile::{profile, timed};

/// Epsilon of every norm inside the MMDiT (diffusers `JointTransformerBlock`).
const NORM_EPS: f64 = 1e-6;

/// What a linear layer of a transformer block reads.
pub(crate) enum Hidden {
    /// `[B, L, D]` in the storage's precision.
    Plain(Tensor),
    /// The same in fp8 with a scale for each row.
    #[cfg(feature = "cuda")]
    Rowwise(fused::Rowwise),
}

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

    /// `act(x w^T + b)`: `[.., input]` and `w [output, input]` to `[.., output]`.
    pub(crate) fn linear(
        self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        act: Activation,
    ) -> Result<Tensor> {
        let op = if self.fused { fused::linear } else { plain::linear };
        timed(x, || product_name(x, w.dims()), || op(x, w, b, act))
    }

    /// [`Self::linear`] with weights that have been packed for the processor.
    pub(crate) fn linear_packed(
        self,
        x: &Tensor,
        w: &fused::PackedWeight,
        b: Option<&Tensor>,
        act: Activation,
    ) -> Result<Tensor> {
        timed(x, || product_name(x, w.dims()), || fused::linear_packed(x, w, b, act))
    }

    /// `act(a + b)`, both `[.., D]`.
    pub(crate) fn add_activate(self, a: &Tensor, b: &Tensor, act: Activation) -> Result<Tensor> {
        let op = if self.fused { fused::add_activate } else { plain::add_activate };
        timed(a, || "add a low-rank product".into(), || op(a, b, act))
    }

    /// LayerNorm of `[.., D]` over the last dimension.
    pub(crate) fn layer_norm(self, x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
        let op = if self.fused { fused::layer_norm } else { plain::layer_norm };
        op(x, w, b, eps)
    }

    /// Root-mean-square norm of `[.., D]` over the last dimension.
    pub(crate) fn rms_norm(self, x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
        let op = if self.fused { fused::rms_norm } else { plain::rms_norm };
        op(x, w, eps)
    }

    /// `[B, input, H, W]` and `w [output, input, k, k]` to `[B, output, H', W']`.
    pub(crate) fn conv2d(self, x: &Tensor, w: &Tensor, b: &Tensor, spec: Conv2dSpec) -> Result<Tensor> {
        let op = if self.fused { fused::conv2d } else { plain::conv2d };
        op(x, w, Some(b), spec)
    }

    /// GroupNorm of `[B, C, H, W]`, then the activation.
    pub(crate) fn group_norm(
        self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        groups: usize,
        act: Activation,
    ) -> Result<Tensor> {
        let op = if self.fused { fused::group_norm } else { plain::group_norm };
        op(x, w, b, groups, NORM_EPS, act)
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

    /// The same with scores that are scaled by `scale` and get `bias` `[L, L]` or `[H, L, L]` f32: in f32 on a GPU and in plain
    /// candle.
    pub(crate) fn biased_attention(self, qkv: &Tensor, bias: &Tensor, scale: f32) -> Result<Tensor> {
        let op = if self.fused && qkv.device().is_cpu() {
            fused::biased_attention
        } else {
            plain::biased_attention
        };
        op(qkv, bias, scale)
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

    /// The sum of two tensors of one shape.
    pub(crate) fn add(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        if self.fused && a.device().is_cpu() && a.is_contiguous() && b.is_contiguous() {
            return fused::add_activate(a, b, Activation::None);
        }
        #[cfg(feature = "cuda")]
        if self.fused && a.device().is_cuda() && a.stride() == b.stride() {
            return fused::cuda::elementwise::add(a, b);
        }
        a + b
    }
}

/// `rows x inputs -> outputs`.
pub(crate) fn product_name(x: &Tensor, weight: &[usize]) -> String {
    let inputs = weight.last().copied().unwrap_or_default();
    format!("linear {} x {inputs} -> {}", x.elem_count() / inputs.max(1), weight[0])
}
