//! The image or text tokens on their way through the blocks.

use crate::ops::{Hidden, Ops};
use candle_core::{Result, Tensor};

/// A residual stream `[B, L, D]`. The last branch's sum is left to the norm that reads it next, so that both are one
/// pass over memory.
pub(super) struct Stream {
    x: Tensor,
    pending: Option<Branch>,
}

/// `gate * y` still to be added.
pub(super) struct Branch {
    /// `[B, L, D]`.
    pub(super) y: Tensor,
    /// The row of the modulations that gates it.
    pub(super) gate: usize,
}

impl Stream {
    pub(super) fn new(x: Tensor) -> Self {
        Self { x, pending: None }
    }

    pub(super) fn with(x: Tensor, branch: Branch) -> Self {
        Self { x, pending: Some(branch) }
    }

    /// The stream with what is pending.
    pub(super) fn sum(&self, ops: Ops, mods: &Tensor) -> Result<Tensor> {
        match &self.pending {
            None => Ok(self.x.clone()),
            Some(Branch { y, gate }) => ops.gated_add(&self.x, y, mods, *gate),
        }
    }

    /// Adds what is pending and takes the norm: `x` and `layer_norm(x) * (1 + scale) + shift`, with `(shift, scale)`
    /// rows of `mods [B, R, D]`.
    pub(super) fn normed(self, ops: Ops, mods: &Tensor, rows: (usize, usize)) -> Result<(Tensor, Hidden)> {
        match self.pending {
            None => {
                let normed = ops.layer_norm_modulate(&self.x, mods, rows)?;
                Ok((self.x, normed))
            }
            Some(Branch { y, gate }) => ops.gated_add_modulate(&self.x, &y, mods, gate, rows),
        }
    }
}
