//! The CLIP text transformer (transformers `CLIPTextModelWithProjection`).

use crate::config::ClipConfig;
use crate::layers::{Embedding, LayerNorm, Linear, activation};
use crate::ops::{Activation, Ops};
use crate::weights::{Scope, Weights};
use candle_core::{Result, Tensor, bail};

/// CLIP-L or CLIP-G.
pub(super) struct Clip {
    tokens: Embedding,
    positions: Tensor,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    projection: Linear,
    config: ClipConfig,
}

/// What SD3.5 reads of CLIP.
pub(super) struct ClipOutput {
    /// `[B, L, hidden]` before the last layer (`hidden_states[-2]`), without the final norm.
    pub(super) hidden: Tensor,
    /// `[B, projection]`: after the final norm, at the first end of text, projected.
    pub(super) pooled: Tensor,
}

struct Layer {
    norm1: LayerNorm,
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    act: Activation,
    heads: usize,
    ops: Ops,
}

impl Clip {
    pub(super) fn load(weights: &Weights, config: &ClipConfig) -> Result<Self> {
        let (root, width) = (weights.root(), config.hidden_size);
        if config.num_attention_heads == 0 || width % config.num_attention_heads != 0 {
            bail!("hidden_size {width} does not divide into {} heads", config.num_attention_heads);
        }
        if config.num_hidden_layers == 0 {
            bail!("num_hidden_layers is zero");
        }
        let model = root.at("text_model");
        let embeddings = model.at("embeddings");
        let positions = embeddings.at("position_embedding");
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&model.at("encoder.layers").at(index), config))
            .collect::<Result<_>>()?;
        Ok(Self {
            tokens: Embedding::load(&embeddings.at("token_embedding"), config.vocab_size, width)?,
            positions: positions.tensor("weight", &[config.max_position_embeddings, width])?,
            layers,
            final_norm: LayerNorm::load(&model.at("final_layer_norm"), width, config.layer_norm_eps)?,
            projection: Linear::load_no_bias(&root.at("text_projection"), width, config.projection_dim)?,
            config: config.clone(),
        })
    }

    pub(super) fn width(&self) -> usize {
        self.config.hidden_size
    }

    pub(super) fn projection(&self) -> usize {
        self.config.projection_dim
    }

    pub(super) fn positions(&self) -> usize {
        self.config.max_position_embeddings
    }

    /// `B` rows of equally many ids.
    pub(super) fn forward(&self, ids: &[Vec<u32>]) -> Result<ClipOutput> {
        let length = ids.first().map_or(0, Vec::len);
        let mut x = self.tokens.forward(ids)?.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let mask = causal_mask(length)?.to_device(self.tokens.device())?;
        let mut before_last = x.clone();
        for layer in &self.layers {
            before_last = x;
            x = layer.forward(&before_last, &mask)?;
        }
        let x = self.final_norm.forward(&x)?;
        let ends = ids.iter().enumerate().map(|(row, ids)| x.get(row)?.narrow(0, self.end_of_text(ids), 1));
        let ends = Tensor::cat(&ends.collect::<Result<Vec<_>>>()?, 0)?;
        Ok(ClipOutput { hidden: before_last, pooled: self.projection.forward(&ends)? })
    }

    /// Where the pooled vector is read. An `eos_token_id` of 2 marks old configs, whose id is wrong: there the
    /// highest id counts (transformers `CLIPTextTransformer.forward`).
    fn end_of_text(&self, ids: &[u32]) -> usize {
        let eos = match self.config.eos_token_id {
            2 => ids.iter().copied().max().unwrap_or_default(),
            eos => eos,
        };
        ids.iter().position(|id| *id == eos).unwrap_or(0)
    }
}

/// 0 where a token may look, minus infinity ahead of it: `[L, L]` f32.
fn causal_mask(length: usize) -> Result<Tensor> {
    let ahead = |i: usize, j: usize| if j > i { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..length).flat_map(|i| (0..length).map(move |j| ahead(i, j))).collect();
    Tensor::from_vec(mask, (length, length), &candle_core::Device::Cpu)
}

impl Layer {
    fn load(scope: &Scope, config: &ClipConfig) -> Result<Self> {
        let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let attention = scope.at("self_attn");
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|name| attention.at(name));
        Ok(Self {
            norm1: LayerNorm::load(&scope.at("layer_norm1"), width, eps)?,
            qkv: Linear::stacked(&qkv, width, width)?,
            out: Linear::load(&attention.at("out_proj"), width, width)?,
            norm2: LayerNorm::load(&scope.at("layer_norm2"), width, eps)?,
            fc1: Linear::load(&scope.at("mlp.fc1"), width, inner)?,
            fc2: Linear::load(&scope.at("mlp.fc2"), inner, width)?,
            act: activation(&config.hidden_act)?,
            heads: config.num_attention_heads,
            ops: scope.target().ops,
        })
    }

    /// `[B, L, hidden]`.
    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let x = self.ops.add(x, &self.attention(&self.norm1.forward(x)?, mask)?)?;
        let y = self.fc1.forward_act(&self.norm2.forward(&x)?, self.act)?;
        self.ops.add(&x, &self.fc2.forward(&y)?)
    }

    fn attention(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (batch, length, width) = x.dims3()?;
        let qkv = self.qkv.forward(x)?.reshape((batch, length, 3, self.heads, width / self.heads))?;
        let scale = 1.0 / ((width / self.heads) as f32).sqrt();
        self.out.forward(&self.ops.biased_attention(&qkv, mask, scale)?)
    }
}
