//! One joint block (diffusers `JointTransformerBlock`): image and text attend together, each with its own weights.

use super::embed::{SCALE_SHIFT, SHIFT_SCALE};
use super::ip_adapter::BlockTokens;
use super::stream::{Branch, Stream};
use crate::config::TransformerConfig;
use crate::layers::{Linear, mlp};
use crate::ops::Ops;
use crate::weights::Scope;
use candle_core::{Result, Tensor};

/// Rows of an adaLN of six: `SHIFT_SCALE` and this gate for attention, the rest for the MLP.
pub(super) const ROWS: usize = 6;
pub(super) const GATE: usize = 2;
const MLP_SHIFT_SCALE: (usize, usize) = (3, 4);
const MLP_GATE: usize = 5;
/// Rows 6 to 8 of an adaLN of nine: the image-only second attention.
const DUAL_SHIFT_SCALE: (usize, usize) = (6, 7);
const DUAL_GATE: usize = 8;

/// The image's projections of a block.
pub(super) const IMAGE_QKV: [&str; 3] = ["to_q", "to_k", "to_v"];

/// Where a block is in its network.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its number, from 0.
    pub(super) index: usize,
    /// The row of the step's modulations at which those of its adaLN begin.
    pub(super) first_row: usize,
    /// Whether it drops its text stream after attention (diffusers' `context_pre_only`).
    pub(super) drops_text: bool,
}

/// A joint block; the last one of a model drops its text stream after attention.
pub(super) struct Block {
    image: PreAttention,
    text: PreAttention,
    image_after: PostAttention,
    /// `None` in the last block.
    text_after: Option<PostAttention>,
    /// `[4, Dh]`: q, k, text q, text k.
    norms: Option<Tensor>,
    dual: Option<Dual>,
    heads: usize,
    ops: Ops,
}

/// What leads to attention in a stream.
pub(super) struct PreAttention {
    pub(super) adaln: Linear,
    qkv: Linear,
    /// The adaLN's rows in the step's modulations.
    pub(super) rows: std::ops::Range<usize>,
}

/// What follows attention in a stream.
pub(super) struct PostAttention {
    pub(super) projection: Linear,
    mlp_in: Linear,
    mlp_out: Linear,
}

/// The image-only second attention of SD3.5 Medium (`attn2`).
struct Dual {
    qkv: Linear,
    projection: Linear,
    /// `[2, Dh]`: q, k.
    norms: Option<Tensor>,
}

impl PreAttention {
    /// `rows` rows of adaLN and q, k and v, of a stream `width` wide.
    pub(super) fn load(
        scope: &Scope,
        adaln: &str,
        rows: std::ops::Range<usize>,
        qkv: [&str; 3],
        width: usize,
    ) -> Result<Self> {
        let adaln = Linear::load_run_once(&scope.at(adaln), width, rows.len() * width)?;
        Ok(Self { adaln, qkv: stacked(&scope.at("attn"), qkv, width)?, rows })
    }

    /// Rows of this adaLN as rows of the step's modulations.
    fn rows(&self, (shift, scale): (usize, usize)) -> (usize, usize) {
        (self.row(shift), self.row(scale))
    }

    pub(super) fn row(&self, row: usize) -> usize {
        self.rows.start + row
    }

    /// The stream's sum, and q, k and v of its norm, modulated by `rows` of this adaLN.
    pub(super) fn project(
        &self,
        ops: Ops,
        stream: Stream,
        mods: &Tensor,
        rows: (usize, usize),
    ) -> Result<(Tensor, Tensor)> {
        let (x, normed) = stream.normed(ops, mods, self.rows(rows))?;
        Ok((x, self.qkv.forward_hidden(&normed)?))
    }
}

impl Block {
    pub(super) fn load(scope: &Scope, config: &TransformerConfig, place: Place) -> Result<Self> {
        let Place { index, first_row, drops_text } = place;
        let width = config.width();
        let is_dual = config.dual_attention_layers.contains(&index);
        let rows = first_row..first_row + if is_dual { 9 } else { ROWS };
        let image = PreAttention::load(scope, "norm1.linear", rows, IMAGE_QKV, width)?;
        let rows = image.rows.end..image.rows.end + if drops_text { 2 } else { ROWS };
        let text_qkv = ["add_q_proj", "add_k_proj", "add_v_proj"];
        let text = PreAttention::load(scope, "norm1_context.linear", rows, text_qkv, width)?;
        let dual = is_dual.then(|| Dual::load(&scope.at("attn2"), config)).transpose()?;
        let image_after = PostAttention::load(scope, "to_out.0", "ff", width)?;
        let text_after = (!drops_text)
            .then(|| PostAttention::load(scope, "to_add_out", "ff_context", width))
            .transpose()?;
        let attn = scope.at("attn");
        let norms = norms(&attn, config, &["norm_q", "norm_k", "norm_added_q", "norm_added_k"])?;
        let (heads, ops) = (config.num_attention_heads, scope.target().ops);
        Ok(Self { image, text, image_after, text_after, norms, dual, heads, ops })
    }

    /// Where the next block's adaLN rows begin.
    pub(super) fn end_row(&self) -> usize {
        self.text.rows.end
    }

    /// The adaLN layers in the order of their rows.
    pub(super) fn adalns(&self) -> [&Linear; 2] {
        [&self.image.adaln, &self.text.adaln]
    }

    /// Image and text through the block, with the step's modulations `[B, R, D]` and an image prompt, if there is one. Text
    /// ends with the last block.
    pub(super) fn forward(
        &self,
        image: Stream,
        text: Option<Stream>,
        mods: &Tensor,
        prompt: Option<BlockTokens>,
    ) -> Result<(Stream, Option<Stream>)> {
        let Some(text) = text else { candle_core::bail!("a block after the last one") };
        let text_rows = if self.text_after.is_some() { SHIFT_SCALE } else { SCALE_SHIFT };
        let ((image, image_qkv), (text, text_qkv)) = self.ops.fork_join(
            mods,
            || self.image.project(self.ops, image, mods, SHIFT_SCALE),
            || self.text.project(self.ops, text, mods, text_rows),
        )?;
        let qkv = self.ops.joint_qkv(&image_qkv, Some(&text_qkv), self.norms.as_ref(), self.heads)?;
        let attended = self.ops.attention(&qkv)?;

        let (image_length, text_length) = (image.dim(1)?, text.dim(1)?);
        let mut of_image = attended.narrow(1, 0, image_length)?;
        if let Some(prompt) = prompt {
            of_image = prompt.add(0, &of_image, &image_qkv)?;
        }
        let of_text = attended.narrow(1, image_length, text_length)?;
        let image = || self.after_image(image, &of_image, mods, prompt);
        match &self.text_after {
            None => Ok((image()?, None)),
            Some(after) => {
                let text = || self.after_text(after, text, &of_text, mods);
                let (image, text) = self.ops.fork_join(mods, image, text)?;
                Ok((image, Some(text)))
            }
        }
    }

    /// The image, its part of what attention gave, and the rest of the block: all `[B, Li, D]`.
    fn after_image(
        &self,
        image: Tensor,
        attended: &Tensor,
        mods: &Tensor,
        prompt: Option<BlockTokens>,
    ) -> Result<Stream> {
        // In the order in which the layers were loaded: a streamed matrix is read ahead in that order.
        let second =
            self.dual.as_ref().map(|dual| self.dual_attention(dual, &image, mods, prompt)).transpose()?;
        let y = self.image_after.projection.forward(attended)?;
        let branch = Branch { y, gate: self.image.row(GATE) };
        let image = match second {
            Some(second) => {
                let image = self.ops.gated_add(&image, &branch.y, mods, branch.gate)?;
                Stream::with(image, Branch { y: second, gate: self.image.row(DUAL_GATE) })
            }
            None => Stream::with(image, branch),
        };
        self.image_after.feed_forward(self.ops, &self.image, image, mods)
    }

    /// The same of the text.
    fn after_text(
        &self,
        after: &PostAttention,
        text: Tensor,
        attended: &Tensor,
        mods: &Tensor,
    ) -> Result<Stream> {
        let branch = Branch { y: after.projection.forward(attended)?, gate: self.text.row(GATE) };
        after.feed_forward(self.ops, &self.text, Stream::with(text, branch), mods)
    }

    /// The second attention, on the block's input: `[B, Li, D]`.
    fn dual_attention(
        &self,
        dual: &Dual,
        image: &Tensor,
        mods: &Tensor,
        prompt: Option<BlockTokens>,
    ) -> Result<Tensor> {
        let normed = self.ops.layer_norm_modulate(image, mods, self.image.rows(DUAL_SHIFT_SCALE))?;
        let image_qkv = dual.qkv.forward_hidden(&normed)?;
        let qkv = self.ops.joint_qkv(&image_qkv, None, dual.norms.as_ref(), self.heads)?;
        let mut attended = self.ops.attention(&qkv)?;
        if let Some(prompt) = prompt {
            attended = prompt.add(1, &attended, &image_qkv)?;
        }
        dual.projection.forward(&attended)
    }
}

impl PostAttention {
    pub(super) fn load(scope: &Scope, projection: &str, mlp: &str, width: usize) -> Result<Self> {
        let mlp = scope.at(mlp).at("net");
        Ok(Self {
            projection: Linear::load(&scope.at("attn").at(projection), width, width)?.quantised()?,
            mlp_in: Linear::load(&mlp.at("0.proj"), width, 4 * width)?.quantised()?,
            mlp_out: Linear::load(&mlp.at("2"), 4 * width, width)?.quantised()?,
        })
    }

    /// The stream from its attention's sum to the end of the block.
    pub(super) fn feed_forward(
        &self,
        ops: Ops,
        before: &PreAttention,
        stream: Stream,
        mods: &Tensor,
    ) -> Result<Stream> {
        let (x, normed) = stream.normed(ops, mods, before.rows(MLP_SHIFT_SCALE))?;
        let y = mlp(&self.mlp_in, &self.mlp_out, &normed)?;
        Ok(Stream::with(x, Branch { y, gate: before.row(MLP_GATE) }))
    }
}

impl Dual {
    fn load(scope: &Scope, config: &TransformerConfig) -> Result<Self> {
        let width = config.width();
        Ok(Self {
            qkv: stacked(scope, ["to_q", "to_k", "to_v"], width)?,
            projection: Linear::load(&scope.at("to_out.0"), width, width)?.quantised()?,
            norms: norms(scope, config, &["norm_q", "norm_k"])?,
        })
    }
}

/// Three projections of one input as one `[3D, D]`.
fn stacked(scope: &Scope, names: [&str; 3], width: usize) -> Result<Linear> {
    Linear::stacked(&names.map(|name| scope.at(name)), width, width)?.quantised()
}

/// The weights of a block's q and k norms, one row each, if the model has them.
fn norms(scope: &Scope, config: &TransformerConfig, names: &[&str]) -> Result<Option<Tensor>> {
    if config.qk_norm.is_none() {
        return Ok(None);
    }
    let row = |name: &&str| scope.at(name).tensor("weight", &[config.attention_head_dim]);
    Tensor::stack(&names.iter().map(row).collect::<Result<Vec<_>>>()?, 0)?.contiguous().map(Some)
}
