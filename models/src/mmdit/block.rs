//! One joint block (diffusers `JointTransformerBlock`): image and text attend together, each with its own weights.

use super::embed::{SCALE_SHIFT, SHIFT_SCALE};
use crate::config::TransformerConfig;
use crate::layers::{Activation, Linear, Ops};
use crate::weights::Scope;
use candle_core::{Result, Tensor};

/// Rows of an adaLN of six: `SHIFT_SCALE` and this gate for attention, the rest for the MLP.
const GATE: usize = 2;
const MLP_SHIFT_SCALE: (usize, usize) = (3, 4);
const MLP_GATE: usize = 5;
/// Rows 6 to 8 of an adaLN of nine: the image-only second attention.
const DUAL_SHIFT_SCALE: (usize, usize) = (6, 7);
const DUAL_GATE: usize = 8;

/// A joint block; the last one of a model drops its text stream after attention.
pub(super) struct Block {
    image: Stream,
    text: Stream,
    image_after: After,
    /// `None` in the last block.
    text_after: Option<After>,
    /// `[4, Dh]`: q, k, text q, text k.
    norms: Option<Tensor>,
    dual: Option<Dual>,
    heads: usize,
    ops: Ops,
}

/// What leads to attention in a stream.
struct Stream {
    modulation: Linear,
    qkv: Linear,
}

/// What follows attention in a stream.
struct After {
    projection: Linear,
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

/// A block's modulations for every step of a request.
pub(super) struct BlockModulations {
    /// `[S, B, 6 or 9, D]`.
    image: Tensor,
    /// `[S, B, 6, D]`, or `[S, B, 2, D]` in the last block.
    text: Tensor,
}

/// A block's modulations at one step: the same without `S`.
pub(super) struct StepModulations {
    image: Tensor,
    text: Tensor,
}

impl BlockModulations {
    pub(super) fn at(&self, step: usize) -> Result<StepModulations> {
        Ok(StepModulations { image: self.image.get(step)?, text: self.text.get(step)? })
    }
}

impl Block {
    pub(super) fn load(scope: &Scope, config: &TransformerConfig, index: usize) -> Result<Self> {
        let width = config.width();
        let last = index + 1 == config.num_layers;
        let is_dual = config.dual_attention_layers.contains(&index);
        let attn = scope.at("attn");
        let stream = |adaln: &str, rows: usize, qkv: [&str; 3]| {
            let modulation = Linear::load(&scope.at(adaln), width, rows * width)?;
            candle_core::Result::Ok(Stream { modulation, qkv: stacked(&attn, qkv, width)? })
        };
        let image = stream("norm1.linear", if is_dual { 9 } else { 6 }, ["to_q", "to_k", "to_v"])?;
        let text_qkv = ["add_q_proj", "add_k_proj", "add_v_proj"];
        let text = stream("norm1_context.linear", if last { 2 } else { 6 }, text_qkv)?;
        let image_after = After::load(scope, "to_out.0", "ff", width)?;
        let text_after =
            (!last).then(|| After::load(scope, "to_add_out", "ff_context", width)).transpose()?;
        let norms = norms(&attn, config, &["norm_q", "norm_k", "norm_added_q", "norm_added_k"])?;
        let dual = is_dual.then(|| Dual::load(&scope.at("attn2"), config)).transpose()?;
        let (heads, ops) = (config.num_attention_heads, scope.target().ops);
        Ok(Self { image, text, image_after, text_after, norms, dual, heads, ops })
    }

    /// Applies `modulate` (adaLN of all steps) to the block's two adaLN layers.
    pub(super) fn modulations(
        &self,
        modulate: &impl Fn(&Linear) -> Result<Tensor>,
    ) -> Result<BlockModulations> {
        Ok(BlockModulations {
            image: modulate(&self.image.modulation)?,
            text: modulate(&self.text.modulation)?,
        })
    }

    /// Image `[B, Li, D]` and text `[B, Lt, D]` through the block. Text ends with the last block.
    pub(super) fn forward(
        &self,
        image: Tensor,
        text: Option<Tensor>,
        mods: &StepModulations,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let Some(text) = text else { candle_core::bail!("a block after the last one") };
        let (image_length, text_length) = (image.dim(1)?, text.dim(1)?);
        let text_rows = if self.text_after.is_some() { SHIFT_SCALE } else { SCALE_SHIFT };
        let image_qkv = self.image.qkv.forward(&self.modulated(&image, &mods.image, SHIFT_SCALE)?)?;
        let text_qkv = self.text.qkv.forward(&self.modulated(&text, &mods.text, text_rows)?)?;
        let qkv = self.ops.joint_qkv(&image_qkv, Some(&text_qkv), self.norms.as_ref(), self.heads)?;
        let attended = self.ops.attention(&qkv)?;
        let dual =
            self.dual.as_ref().map(|dual| self.dual_attention(dual, &image, &mods.image)).transpose()?;

        let text = match &self.text_after {
            Some(after) => {
                let attended = attended.narrow(1, image_length, text_length)?;
                Some(self.rest(after, &text, &attended, None, &mods.text)?)
            }
            None => None,
        };
        let attended = attended.narrow(1, 0, image_length)?;
        let image = self.rest(&self.image_after, &image, &attended, dual, &mods.image)?;
        Ok((image, text))
    }

    fn modulated(&self, x: &Tensor, mods: &Tensor, rows: (usize, usize)) -> Result<Tensor> {
        self.ops.layer_norm_modulate(x, mods, rows)
    }

    /// The second attention, on the block's input: `[B, Li, D]`.
    fn dual_attention(&self, dual: &Dual, image: &Tensor, mods: &Tensor) -> Result<Tensor> {
        let qkv = dual.qkv.forward(&self.modulated(image, mods, DUAL_SHIFT_SCALE)?)?;
        let qkv = self.ops.joint_qkv(&qkv, None, dual.norms.as_ref(), self.heads)?;
        dual.projection.forward(&self.ops.attention(&qkv)?)
    }

    /// The stream from its attention's result to the end of the block: `x [B, L, D]`.
    fn rest(
        &self,
        after: &After,
        x: &Tensor,
        attended: &Tensor,
        dual: Option<Tensor>,
        mods: &Tensor,
    ) -> Result<Tensor> {
        let mut x = self.ops.gated_add(x, &after.projection.forward(attended)?, mods, GATE)?;
        if let Some(dual) = dual {
            x = self.ops.gated_add(&x, &dual, mods, DUAL_GATE)?;
        }
        let y = self.modulated(&x, mods, MLP_SHIFT_SCALE)?;
        let y = after.mlp_out.forward(&after.mlp_in.forward_act(&y, Activation::GeluTanh)?)?;
        self.ops.gated_add(&x, &y, mods, MLP_GATE)
    }
}

impl After {
    fn load(scope: &Scope, projection: &str, mlp: &str, width: usize) -> Result<Self> {
        let mlp = scope.at(mlp).at("net");
        Ok(Self {
            projection: Linear::load(&scope.at("attn").at(projection), width, width)?,
            mlp_in: Linear::load(&mlp.at("0.proj"), width, 4 * width)?,
            mlp_out: Linear::load(&mlp.at("2"), 4 * width, width)?,
        })
    }
}

impl Dual {
    fn load(scope: &Scope, config: &TransformerConfig) -> Result<Self> {
        let width = config.width();
        Ok(Self {
            qkv: stacked(scope, ["to_q", "to_k", "to_v"], width)?,
            projection: Linear::load(&scope.at("to_out.0"), width, width)?,
            norms: norms(scope, config, &["norm_q", "norm_k"])?,
        })
    }
}

/// Three projections of one input as one `[3D, D]`.
fn stacked(scope: &Scope, names: [&str; 3], width: usize) -> Result<Linear> {
    Linear::stacked(&names.map(|name| scope.at(name)), width, width)
}

/// The weights of a block's q and k norms, one row each, if the model has them.
fn norms(scope: &Scope, config: &TransformerConfig, names: &[&str]) -> Result<Option<Tensor>> {
    if config.qk_norm.is_none() {
        return Ok(None);
    }
    let row = |name: &&str| scope.at(name).tensor("weight", &[config.attention_head_dim]);
    Tensor::stack(&names.iter().map(row).collect::<Result<Vec<_>>>()?, 0)?.contiguous().map(Some)
}
