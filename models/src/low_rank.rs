//! Low-rank products beside the weights of linear layers: what adapters add, without a change of the weights.

use crate::ops::{Activation, Ops};
use candle_core::{Result, Tensor};
use std::sync::{Arc, PoisonError, RwLock};

/// The network that a layer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    Transformer,
    ClipL,
    ClipG,
    T5,
}

/// `x down^T up^T`, added to what a layer computes.
#[derive(Debug, Clone)]
pub(crate) struct LowRank {
    /// `[rank, input]`.
    pub(crate) down: Tensor,
    /// `[output, rank]`, multiplied by its scale.
    pub(crate) up: Tensor,
}

impl LowRank {
    /// The same values in memory of their own.
    pub(crate) fn copy(&self) -> Result<Self> {
        Ok(Self { down: self.down.copy()?, up: self.up.copy()? })
    }

    /// `[.., input]` to `[.., output]`.
    pub(crate) fn forward(&self, ops: Ops, x: &Tensor) -> Result<Tensor> {
        let inner = ops.linear(x, &self.down, None, Activation::None)?;
        self.expand(ops, &inner)
    }

    /// `[.., rank]` to `[.., output]`.
    pub(crate) fn expand(&self, ops: Ops, inner: &Tensor) -> Result<Tensor> {
        ops.linear(inner, &self.up, None, Activation::None)
    }
}

/// What a layer adds now, shared by the layer and by what applies adapters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<RwLock<Option<LowRank>>>);

impl Slot {
    pub(crate) fn get(&self) -> Option<LowRank> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, low_rank: Option<LowRank>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = low_rank;
    }
}

/// A linear layer that was loaded.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Of the projections that it is made of, one below the other, in diffusers' or transformers' names.
    pub(crate) names: Vec<String>,
    pub(crate) input: usize,
    /// Of each projection.
    pub(crate) output: usize,
    pub(crate) slot: Slot,
}
