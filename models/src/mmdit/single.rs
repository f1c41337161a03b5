//! A block of the image alone (diffusers `SD3SingleTransformerBlock`, transformer_sd3.py:39-76), of which Stability's
//! ControlNets consist.

use super::block::{GATE, IMAGE_QKV, PostAttention, PreAttention, ROWS};
use super::embed::SHIFT_SCALE;
use super::stream::{Branch, Stream};
use crate::config::TransformerConfig;
use crate::layers::Linear;
use crate::ops::Ops;
use crate::weights::Scope;
use candle_core::{Result, Tensor};

/// A joint block's image half, without norms of q and k.
pub(super) struct SingleBlock {
    before: PreAttention,
    after: PostAttention,
    heads: usize,
    ops: Ops,
}

impl SingleBlock {
    /// A block whose adaLN rows begin at `first_row` of the step's modulations.
    pub(super) fn load(scope: &Scope, config: &TransformerConfig, first_row: usize) -> Result<Self> {
        let width = config.width();
        Ok(Self {
            before: PreAttention::load(scope, "norm1.linear", first_row..first_row + ROWS, IMAGE_QKV, width)?,
            after: PostAttention::load(scope, "to_out.0", "ff", width)?,
            heads: config.num_attention_heads,
            ops: scope.target().ops,
        })
    }

    pub(super) fn adaln(&self) -> &Linear {
        &self.before.adaln
    }

    /// Where the next block's adaLN rows begin.
    pub(super) fn end_row(&self) -> usize {
        self.before.rows.end
    }

    /// The image `[B, L, D]` through the block, with the step's modulations `[B, R, D]`.
    pub(super) fn forward(&self, image: Stream, mods: &Tensor) -> Result<Stream> {
        let (image, qkv) = self.before.project(self.ops, image, mods, SHIFT_SCALE)?;
        let qkv = self.ops.joint_qkv(&qkv, None, None, self.heads)?;
        let y = self.after.projection.forward(&self.ops.attention(&qkv)?)?;
        let branch = Branch { y, gate: self.before.row(GATE) };
        self.after.feed_forward(self.ops, &self.before, Stream::with(image, branch), mods)
    }
}
