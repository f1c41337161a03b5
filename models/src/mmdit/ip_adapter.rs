//! An IP-Adapter (diffusers `SD3IPAdapterMixin`): each attention of the transformer's image is followed by another, which
//! sees the tokens of an image prompt beside the image.

use super::image_projection::{ImageProjection, PreparedProjection};
use crate::config::{IpAdapterConfig, TransformerConfig};
use crate::layers::Linear;
use crate::ops::Ops;
use crate::weights::{Scope, Weights};
use candle_core::{Result, Tensor};

/// Rows of an attention's norm: shift, then scale (normalization.py, `AdaLayerNorm` with `chunk_dim` 1).
const ROWS: usize = 2;

/// A loaded IP-Adapter.
pub(crate) struct IpAdapterModel {
    projection: ImageProjection,
    /// Of each block: its attention, and its second one if it has that.
    blocks: Vec<Vec<ImageAttention>>,
}

/// What an IP-Adapter adds to one attention (`SD3IPAdapterJointAttnProcessor2_0`, attention_processor.py:4872-5040).
struct ImageAttention {
    modulation: Linear,
    key_value: Linear,
    /// `[4, Dh]`: the image's q and k, then twice the tokens' k, which have no queries.
    norms: Tensor,
    /// Where its rows begin in the step's modulations.
    first_row: usize,
    heads: usize,
    ops: Ops,
}

/// What is known of all steps beforehand.
pub(crate) struct PreparedPrompt {
    projection: PreparedProjection,
    /// `[S, R, D]`: two rows of each attention.
    modulations: Tensor,
}

/// An image prompt in one step.
pub(crate) struct ImageTokens<'a> {
    model: &'a IpAdapterModel,
    /// `[b, Q, D]`: one row a branch, the unconditional one first.
    tokens: Tensor,
    /// `[b, R, D]`.
    modulations: Tensor,
    scale: f64,
}

/// An [`ImageTokens`] in one block.
#[derive(Clone, Copy)]
pub(super) struct BlockTokens<'a> {
    step: &'a ImageTokens<'a>,
    attentions: &'a [ImageAttention],
}

impl IpAdapterModel {
    /// Layers are numbered in the order of diffusers' `attn_processors`: block after block, the second attention of a block
    /// behind its first.
    pub(crate) fn load(
        weights: &Weights,
        config: &IpAdapterConfig,
        transformer: &TransformerConfig,
    ) -> Result<Self> {
        let (root, mut next) = (weights.root(), 0);
        let projection = ImageProjection::load(&root.at("image_proj"), config)?;
        let mut block = |index: usize| {
            let is_dual = transformer.dual_attention_layers.contains(&index);
            let attentions = (0..if is_dual { 2 } else { 1 }).map(|_| {
                let scope = root.at("ip_adapter").at(next);
                next += 1;
                ImageAttention::load(&scope, (config, transformer), (next - 1) * ROWS)
            });
            attentions.collect::<Result<Vec<_>>>()
        };
        let blocks = (0..transformer.num_layers).map(&mut block).collect::<Result<_>>()?;
        Ok(Self { projection, blocks })
    }

    /// Features `[b, T, E]` of the image prompt, one row a branch, for these timesteps.
    pub(crate) fn prepare(&self, features: &Tensor, timesteps: &[f32]) -> Result<PreparedPrompt> {
        let projection = self.projection.prepare(features, timesteps)?;
        let gate = projection.times.silu()?;
        let rows = self.blocks.iter().flatten().map(|attention| attention.modulation.forward(&gate));
        let rows = Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 1)?;
        let attentions = self.blocks.iter().map(Vec::len).sum::<usize>();
        let modulations = rows.reshape((timesteps.len(), attentions * ROWS, ()))?;
        Ok(PreparedPrompt { projection, modulations })
    }

    /// The image prompt in step `step`, whose effect is multiplied by `scale`.
    pub(crate) fn tokens(
        &self,
        prepared: &PreparedPrompt,
        step: usize,
        scale: f64,
    ) -> Result<ImageTokens<'_>> {
        let tokens = self.projection.forward(&prepared.projection, step)?;
        let modulations = prepared.modulations.get(step)?;
        let (rows, width) = modulations.dims2()?;
        let modulations = modulations.broadcast_as((tokens.dim(0)?, rows, width))?.contiguous()?;
        Ok(ImageTokens { model: self, tokens, modulations, scale })
    }
}

impl PreparedPrompt {
    /// The prompt's branch alone.
    pub(crate) fn prompted(&self) -> Result<Self> {
        Ok(Self { projection: self.projection.prompted()?, modulations: self.modulations.clone() })
    }
}

impl ImageTokens<'_> {
    /// The prompt's branch alone.
    pub(crate) fn prompted(&self) -> Result<Self> {
        let last = |rows: &Tensor| rows.narrow(0, rows.dim(0)? - 1, 1);
        let (tokens, modulations) = (last(&self.tokens)?, last(&self.modulations)?);
        Ok(Self { tokens, modulations, ..*self })
    }

    /// `[b, Q, D]`.
    pub(crate) fn values(&self) -> &Tensor {
        &self.tokens
    }

    pub(super) fn of_block(&self, index: usize) -> BlockTokens<'_> {
        BlockTokens { step: self, attentions: &self.model.blocks[index] }
    }
}

impl BlockTokens<'_> {
    /// What attention `index` of the block gave the image, `attended [B, Li, D]`, with what the tokens add; `qkv
    /// [B, Li, 3D]` are the image's q, k and v before their norms.
    pub(super) fn add(&self, index: usize, attended: &Tensor, qkv: &Tensor) -> Result<Tensor> {
        let Some(attention) = self.attentions.get(index) else {
            candle_core::bail!("an IP-Adapter without layers for a second attention")
        };
        let added = (attention.forward(self.step, qkv)? * self.step.scale)?;
        attention.ops.add(attended, &added)
    }
}

impl ImageAttention {
    fn load(
        scope: &Scope,
        (config, transformer): (&IpAdapterConfig, &TransformerConfig),
        first_row: usize,
    ) -> Result<Self> {
        let (width, head) = (transformer.width(), transformer.attention_head_dim);
        let norm = |name| scope.at(name).tensor("weight", &[head]);
        let key = norm("norm_ip_k")?;
        let norms = Tensor::stack(&[norm("norm_q")?, norm("norm_k")?, key.clone(), key], 0)?;
        let key_value = ["to_k_ip", "to_v_ip"].map(|name| scope.at(name));
        Ok(Self {
            modulation: Linear::load(&scope.at("norm_ip.linear"), config.hidden, ROWS * width)?,
            key_value: Linear::stacked_no_bias(&key_value, width, width)?,
            norms: norms.contiguous()?,
            first_row,
            heads: transformer.num_attention_heads,
            ops: scope.target().ops.unquantised(),
        })
    }

    /// `[B, Li, D]`: the image's queries, by norms of their own, attend to the image and to the tokens. `qkv [B, Li, 3D]` is
    /// before the transformer's norms (attention_processor.py:4957, 5018).
    fn forward(&self, step: &ImageTokens, qkv: &Tensor) -> Result<Tensor> {
        let rows = (self.first_row, self.first_row + 1);
        let normed = self.ops.layer_norm_modulate(&step.tokens, &step.modulations, rows)?;
        let key_value = self.key_value.forward_hidden(&normed)?;
        let (branches, tokens, both) = key_value.dims3()?;
        let width = both / 2;
        // Attention takes a query of every token: those of the prompt are left out behind it, so any will do.
        let joint = Tensor::cat(&[&key_value.narrow(2, 0, width)?, &key_value], 2)?;
        let images = qkv.dim(0)? / branches;
        let joint = joint.unsqueeze(1)?.broadcast_as((branches, images, tokens, 3 * width))?;
        let joint = joint.contiguous()?.reshape((branches * images, tokens, 3 * width))?;
        let qkv = self.ops.joint_qkv(qkv, Some(&joint), Some(&self.norms), self.heads)?;
        self.ops.attention(&qkv)?.narrow(1, 0, qkv.dim(1)? - tokens)
    }
}
