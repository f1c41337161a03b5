//! Features of an image prompt to the tokens that attention sees (diffusers `IPAdapterTimeImageProjection`,
//! embeddings.py:2258-2336): learned queries look for what matters, in norms that are modulated by the timestep.

use super::embed::{Mlp, waves};
use crate::config::IpAdapterConfig;
use crate::layers::{LayerNorm, Linear};
use crate::ops::{Activation, Ops};
use crate::weights::Scope;
use candle_core::{Result, Tensor};

/// Epsilon of torch's `LayerNorm`.
const EPS: f64 = 1e-5;

/// How much wider the middle of a feed-forward network is.
const FF_RATIO: usize = 4;

/// Shift and scale of attention's norm, then those of the feed-forward network's.
const ROWS: usize = 4;

/// Features and a timestep to tokens.
pub(super) struct ImageProjection {
    /// `[1, Q, H]`.
    queries: Tensor,
    input: Linear,
    time: Mlp,
    time_channels: usize,
    layers: Vec<Layer>,
    output: Linear,
    norm: LayerNorm,
}

/// `IPAdapterTimeImageProjectionBlock` (embeddings.py:2158-2254).
struct Layer {
    image_norm: LayerNorm,
    query_norm: LayerNorm,
    query: Linear,
    key_value: Linear,
    out: Linear,
    modulation: Linear,
    mlp_norm: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
    heads: usize,
    ops: Ops,
}

/// What the loader of diffusers calls the parts of a layer, and what they are called as published (InstantX), which it
/// translates (loaders/transformer_sd3.py:115-126).
struct Names {
    norms: [&'static str; 3],
    attention: [&'static str; 3],
    modulation: &'static str,
    mlp: [&'static str; 2],
}

const DIFFUSERS: Names = Names {
    norms: ["ln0", "ln1", "adaln_norm"],
    attention: ["attn.to_q", "attn.to_kv", "attn.to_out.0"],
    modulation: "adaln_proj",
    mlp: ["ff.net.0.proj", "ff.net.2"],
};

const PUBLISHED: Names = Names {
    norms: ["0.norm1", "0.norm2", "1.0"],
    attention: ["0.to_q", "0.to_kv", "0.to_out"],
    modulation: "2.1",
    mlp: ["1.1", "1.3"],
};

/// What of the projection is known of all steps beforehand.
pub(super) struct PreparedProjection {
    /// `[b, T, H]`: the features, of each branch.
    features: Tensor,
    /// `[S, H]`: the embedded timesteps.
    pub(super) times: Tensor,
    /// `[S, layers, 4, H]`.
    modulations: Tensor,
}

impl ImageProjection {
    pub(super) fn load(scope: &Scope, config: &IpAdapterConfig) -> Result<Self> {
        let (hidden, width, time_channels) = (config.hidden, config.width, config.time_channels);
        let layer = |index| Layer::load(&scope.at("layers").at(index), config);
        Ok(Self {
            queries: scope.tensor("latents", &[1, config.queries, hidden])?,
            input: Linear::load(&scope.at("proj_in"), config.features, hidden)?,
            time: Mlp::load(&scope.at("time_embedding"), time_channels, hidden)?,
            time_channels,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            output: Linear::load(&scope.at("proj_out"), hidden, width)?,
            norm: LayerNorm::load(&scope.at("norm_out"), width, EPS)?,
        })
    }

    /// Features `[b, T, E]`, of each branch, for these timesteps.
    pub(super) fn prepare(&self, features: &Tensor, timesteps: &[f32]) -> Result<PreparedProjection> {
        let waves = waves(timesteps, self.time_channels, features.device())?;
        let times = self.time.forward(&waves.to_dtype(features.dtype())?)?;
        let gate = times.silu()?;
        let rows = self.layers.iter().map(|layer| layer.modulation.forward(&gate));
        let rows = Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 1)?;
        let (steps, hidden) = times.dims2()?;
        let modulations = rows.reshape((steps, self.layers.len(), ROWS, hidden))?;
        Ok(PreparedProjection { features: self.input.forward(features)?, times, modulations })
    }

    /// The tokens of a step, `[b, Q, D]`.
    pub(super) fn forward(&self, prepared: &PreparedProjection, step: usize) -> Result<Tensor> {
        let PreparedProjection { features, times, modulations } = prepared;
        let features = features.broadcast_add(&times.get(step)?)?;
        let (_, queries, hidden) = self.queries.dims3()?;
        let mut x = self.queries.broadcast_as((features.dim(0)?, queries, hidden))?.contiguous()?;
        let modulations = modulations.get(step)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&features, &x, &modulations.get(index)?)?;
        }
        self.norm.forward(&self.output.forward(&x)?)
    }
}

impl PreparedProjection {
    /// The last branch alone, the prompt's.
    pub(super) fn prompted(&self) -> Result<Self> {
        let (features, times, modulations) = (&self.features, self.times.clone(), self.modulations.clone());
        Ok(Self { features: features.narrow(0, features.dim(0)? - 1, 1)?, times, modulations })
    }
}

impl Layer {
    fn load(scope: &Scope, config: &IpAdapterConfig) -> Result<Self> {
        let names = if scope.has("0.norm1.weight") { PUBLISHED } else { DIFFUSERS };
        let (hidden, inner) = (config.hidden, config.heads * IpAdapterConfig::HEAD);
        let [image_norm, query_norm, mlp_norm] =
            names.norms.map(|name| LayerNorm::load(&scope.at(name), hidden, EPS));
        let [query, key_value, out] = names.attention.map(|name| scope.at(name));
        let [mlp_in, mlp_out] = names.mlp.map(|name| scope.at(name));
        Ok(Self {
            image_norm: image_norm?,
            query_norm: query_norm?,
            query: Linear::load_no_bias(&query, hidden, inner)?,
            key_value: Linear::load_no_bias(&key_value, hidden, 2 * inner)?,
            out: Linear::load_no_bias(&out, inner, hidden)?,
            modulation: Linear::load(&scope.at(names.modulation), hidden, ROWS * hidden)?,
            mlp_norm: mlp_norm?,
            mlp_in: Linear::load_no_bias(&mlp_in, hidden, FF_RATIO * hidden)?,
            mlp_out: Linear::load_no_bias(&mlp_out, FF_RATIO * hidden, hidden)?,
            heads: config.heads,
            ops: scope.target().ops,
        })
    }

    /// Features `[b, T, H]` and what the queries have become, `[b, Q, H]`, with the layer's modulations `[4, H]`.
    fn forward(&self, features: &Tensor, queries: &Tensor, modulations: &Tensor) -> Result<Tensor> {
        let modulated = |norm: &LayerNorm, x: &Tensor, row: usize| {
            let scaled = norm.forward(x)?.broadcast_mul(&(modulations.get(row + 1)? + 1.0)?)?;
            scaled.broadcast_add(&modulations.get(row)?)
        };
        let normed = modulated(&self.query_norm, queries, 0)?;
        let attended = self.attend(&self.image_norm.forward(features)?, &normed)?;
        let x = self.ops.add(&attended, queries)?;
        let y = self.mlp_in.forward_act(&modulated(&self.mlp_norm, &x, 2)?, Activation::GeluErf)?;
        self.ops.add(&self.mlp_out.forward(&y)?, &x)
    }

    /// Queries `[b, Q, H]` attend to features `[b, T, H]` and to each other. diffusers splits the scale between queries
    /// and keys (embeddings.py:2200); their product is the usual one.
    fn attend(&self, features: &Tensor, queries: &Tensor) -> Result<Tensor> {
        let (count, length) = (queries.dim(1)?, features.dim(1)?);
        let key_value = self.key_value.forward(&Tensor::cat(&[queries, features], 1)?)?;
        let (batch, tokens, inner) = (key_value.dim(0)?, count + length, key_value.dim(2)? / 2);
        // Attention takes a query of every token: those of the features are left out behind it, so any will do.
        let any = key_value.narrow(1, count, length)?.narrow(2, 0, inner)?;
        let query = Tensor::cat(&[&self.query.forward(queries)?, &any], 1)?;
        let qkv = Tensor::cat(&[&query, &key_value], 2)?;
        let qkv = qkv.reshape((batch, tokens, 3, self.heads, inner / self.heads))?;
        self.out.forward(&self.ops.attention(&qkv)?.narrow(1, 0, count)?)
    }
}
