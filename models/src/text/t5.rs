//! The T5 encoder (transformers `T5EncoderModel`), run without an attention mask as diffusers does.

use crate::config::T5Config;
use crate::layers::{Embedding, Linear, RmsNorm};
use crate::ops::{Activation, Ops};
use crate::weights::{Scope, Weights};
use candle_core::{DType, Result, Tensor, bail};

/// T5 v1.1, or the first T5 without gates.
pub(super) struct T5 {
    tokens: Embedding,
    /// `[buckets, heads]`, shared by all layers.
    position_bias: Tensor,
    layers: Vec<Layer>,
    final_norm: RmsNorm,
    config: T5Config,
}

struct Layer {
    attention_norm: RmsNorm,
    qkv: Linear,
    out: Linear,
    mlp_norm: RmsNorm,
    mlp: Mlp,
    heads: usize,
    ops: Ops,
}

/// `wo(act(wi(x)))`, or `wo(gelu(wi_0(x)) * wi_1(x))`.
struct Mlp {
    input: Linear,
    gated: Option<Linear>,
    output: Linear,
}

impl T5 {
    pub(super) fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let root = weights.root();
        // Both names hold the same table; files have one or both.
        let table = if weights.has("shared.weight") { "shared" } else { "encoder.embed_tokens" };
        weights.ignore(|name| name == "shared.weight" || name == "encoder.embed_tokens.weight");
        let blocks = root.at("encoder.block");
        let layers = (0..config.num_layers).map(|index| Layer::load(&blocks.at(index), config));
        let bias = blocks.at("0.layer.0.SelfAttention.relative_attention_bias");
        Ok(Self {
            tokens: Embedding::load(&root.at(table), config.vocab_size, config.d_model)?,
            position_bias: bias
                .tensor("weight", &[config.relative_attention_num_buckets, config.num_heads])?
                .to_dtype(DType::F32)?,
            layers: layers.collect::<Result<_>>()?,
            final_norm: RmsNorm::load(
                &root.at("encoder.final_layer_norm"),
                config.d_model,
                config.layer_norm_epsilon,
            )?,
            config: config.clone(),
        })
    }

    pub(super) fn width(&self) -> usize {
        self.config.d_model
    }

    /// `B` rows of equally many ids to `[B, L, d_model]`.
    pub(super) fn forward(&self, ids: &[Vec<u32>]) -> Result<Tensor> {
        let length = ids.first().map_or(0, Vec::len);
        let mut x = self.tokens.forward(ids)?;
        let bias = self.bias(length)?;
        for layer in &self.layers {
            x = layer.forward(&x, &bias)?;
        }
        self.final_norm.forward(&x)
    }

    /// `[heads, L, L]` f32.
    fn bias(&self, length: usize) -> Result<Tensor> {
        let buckets = (0..length).flat_map(|query| (0..length).map(move |key| (query, key)));
        let buckets: Vec<u32> = buckets.map(|(query, key)| self.bucket(query, key)).collect();
        let buckets = Tensor::from_vec(buckets, length * length, self.position_bias.device())?;
        let bias = self.position_bias.index_select(&buckets, 0)?.reshape((length, length, ()))?;
        bias.permute((2, 0, 1))?.contiguous()
    }

    /// `T5Attention._relative_position_bucket`, bidirectional: half of the buckets look ahead; of each half, the
    /// first half is exact and the rest logarithmic, in f32 as in the reference.
    fn bucket(&self, query: usize, key: usize) -> u32 {
        let half = self.config.relative_attention_num_buckets / 2;
        let exact = half / 2;
        let distance = query.abs_diff(key);
        let bucket = if distance < exact {
            distance
        } else {
            let range = (self.config.relative_attention_max_distance as f64 / exact as f64).ln() as f32;
            let along = (distance as f32 / exact as f32).ln() / range * (half - exact) as f32;
            (exact + along as usize).min(half - 1)
        };
        (if key > query { half + bucket } else { bucket }) as u32
    }
}

impl Layer {
    fn load(scope: &Scope, config: &T5Config) -> Result<Self> {
        let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
        let (first, second) = (scope.at("layer.0"), scope.at("layer.1"));
        let attention = first.at("SelfAttention");
        let norm = |scope: &Scope| RmsNorm::load(&scope.at("layer_norm"), width, config.layer_norm_epsilon);
        Ok(Self {
            attention_norm: norm(&first)?,
            qkv: Linear::stacked_no_bias(&["q", "k", "v"].map(|name| attention.at(name)), width, inner)?,
            out: Linear::load_no_bias(&attention.at("o"), inner, width)?,
            mlp_norm: norm(&second)?,
            mlp: Mlp::load(&second.at("DenseReluDense"), config)?,
            heads: config.num_heads,
            ops: scope.target().ops,
        })
    }

    /// `[B, L, d_model]`.
    fn forward(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let x = self.ops.add(x, &self.attention(&self.attention_norm.forward(x)?, bias)?)?;
        let y = self.mlp.forward(&self.mlp_norm.forward(&x)?)?;
        self.ops.add(&x, &y)
    }

    /// T5 does not scale its scores.
    fn attention(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let qkv = self.qkv.forward(x)?;
        let (batch, length, width) = qkv.dims3()?;
        let qkv = qkv.reshape((batch, length, 3, self.heads, width / 3 / self.heads))?;
        self.out.forward(&self.ops.biased_attention(&qkv, bias, 1.0)?)
    }
}

impl Mlp {
    fn load(scope: &Scope, config: &T5Config) -> Result<Self> {
        let (width, inner) = (config.d_model, config.d_ff);
        let linear = |name: &str, input, output| Linear::load_no_bias(&scope.at(name), input, output);
        let output = linear("wo", inner, width)?;
        match config.feed_forward_proj.as_str() {
            "relu" => Ok(Self { input: linear("wi", width, inner)?, gated: None, output }),
            "gated-gelu" => {
                let gated = Some(linear("wi_1", width, inner)?);
                Ok(Self { input: linear("wi_0", width, inner)?, gated, output })
            }
            other => bail!("feed_forward_proj \"{other}\" is not supported: only gated-gelu and relu"),
        }
    }

    /// "gated-gelu" means the tanh form (`T5Config`).
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match &self.gated {
            Some(gated) => (self.input.forward_act(x, Activation::GeluTanh)? * gated.forward(x)?)?,
            None => self.input.forward_act(x, Activation::Relu)?,
        };
        self.output.forward(&y)
    }
}
