//! Patches, positions and the conditioning vector (diffusers `embeddings.py`).

use crate::config::{POSITIONS, TransformerConfig};
use crate::layers::Linear;
use crate::ops::{Activation, Ops};
use crate::weights::Scope;
use candle_core::{Device, Result, Tensor};

/// Frequencies of the timestep embedding, half of them sines.
const TIMESTEP_CHANNELS: usize = 256;

/// Rows of a two-row modulation as `(shift, scale)`: diffusers stores scale first.
pub(super) const SCALE_SHIFT: (usize, usize) = (1, 0);

/// Rows of a six- or nine-row modulation as `(shift, scale)`: shift first.
pub(super) const SHIFT_SCALE: (usize, usize) = (0, 1);

/// `PatchEmbed`: latents to tokens with their positions added.
pub(super) struct Patches {
    projection: Linear,
    /// `[max, max, D]`.
    positions: Tensor,
    patch: usize,
    ops: Ops,
}

impl Patches {
    pub(super) fn load(scope: &Scope, config: &TransformerConfig) -> Result<Self> {
        let (max, width) = (config.pos_embed_max_size, config.width());
        let positions = scope.tensor("pos_embed", &[1, max * max, width])?.reshape((max, max, width))?;
        Self::with(scope, config, positions)
    }

    /// Patches of any number whose tokens get no positions (diffusers' `pos_embed_type` none).
    pub(super) fn load_without_positions(scope: &Scope, config: &TransformerConfig) -> Result<Self> {
        let (target, most) = (scope.target(), *POSITIONS.end());
        // A broadcast zero takes no memory.
        let zero = Tensor::zeros(1, target.dtype, &target.device)?;
        Self::with(scope, config, zero.broadcast_as((most, most, config.width()))?)
    }

    fn with(scope: &Scope, config: &TransformerConfig, positions: Tensor) -> Result<Self> {
        let (width, patch) = (config.width(), config.patch_size);
        let projection = Linear::patches(&scope.at("proj"), config.in_channels, patch, width)?;
        Ok(Self { projection, positions, patch, ops: scope.target().ops })
    }

    /// `[B, C, H, W]` to `[B, (H/p)*(W/p), C*p*p]`.
    pub(super) fn patchify(&self, latents: &Tensor) -> Result<Tensor> {
        patchify(latents, self.patch)
    }

    /// Latents `[B, C, H, W]`, of at most [`Self::max_side`] patches a side, to tokens `[B, L, D]`.
    pub(super) fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = latents.dims4()?;
        let positions = self.positions(height / self.patch, width / self.patch)?;
        self.project(&self.patchify(latents)?, &positions)
    }

    /// The most patches a side.
    pub(super) fn max_side(&self) -> usize {
        self.positions.dims()[0]
    }

    /// Patches `[B, L, C*p*p]` to tokens `[B, L, D]` at `positions [L, D]`.
    pub(super) fn project(&self, patches: &Tensor, positions: &Tensor) -> Result<Tensor> {
        self.ops.add_positions(self.projection.forward(patches)?, positions)
    }

    /// The middle of the position table, `[rows * columns, D]`.
    pub(super) fn positions(&self, rows: usize, columns: usize) -> Result<Tensor> {
        let max = self.positions.dim(0)?;
        let (top, left) = ((max - rows) / 2, (max - columns) / 2);
        self.positions.narrow(0, top, rows)?.narrow(1, left, columns)?.contiguous()?.flatten_to(1)
    }
}

/// `[B, C, H, W]` to `[B, (H/p)*(W/p), C*p*p]`.
pub(super) fn patchify(latents: &Tensor, patch: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = latents.dims4()?;
    let (rows, columns) = (height / patch, width / patch);
    latents
        .reshape(&[batch, channels, rows, patch, columns, patch][..])?
        .permute([0, 2, 4, 1, 3, 5])?
        .reshape((batch, rows * columns, channels * patch * patch))
}

/// `CombinedTimestepTextProjEmbeddings`: the vector every block is modulated by.
pub(super) struct Conditioning {
    timestep: Mlp,
    text: Mlp,
}

/// `TimestepEmbedding`, with SiLU in between.
pub(super) struct Mlp {
    first: Linear,
    second: Linear,
}

impl Mlp {
    pub(super) fn load(scope: &Scope, input: usize, width: usize) -> Result<Self> {
        let first = Linear::load(&scope.at("linear_1"), input, width)?;
        Ok(Self { first, second: Linear::load(&scope.at("linear_2"), width, width)? })
    }

    /// `[.., input]` to `[.., width]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward_act(x, Activation::Silu)?)
    }
}

impl Conditioning {
    pub(super) fn load(scope: &Scope, config: &TransformerConfig) -> Result<Self> {
        let width = config.width();
        let timestep = Mlp::load(&scope.at("timestep_embedder"), TIMESTEP_CHANNELS, width)?;
        let text = Mlp::load(&scope.at("text_embedder"), config.pooled_projection_dim, width)?;
        Ok(Self { timestep, text })
    }

    /// `S` timesteps and pooled text `[B, P]` to `silu(conditioning) [S, B, D]`: adaLN uses nothing else of it.
    pub(super) fn forward(&self, timesteps: &[f32], pooled: &Tensor) -> Result<Tensor> {
        let waves = waves(timesteps, TIMESTEP_CHANNELS, pooled.device())?.to_dtype(pooled.dtype())?;
        let timesteps = self.timestep.forward(&waves)?.unsqueeze(1)?;
        let text = self.text.forward(pooled)?.unsqueeze(0)?;
        timesteps.broadcast_add(&text)?.silu()
    }
}

/// `get_timestep_embedding` with cosines first, `[S, channels]` f32, of an even number of channels.
pub(super) fn waves(timesteps: &[f32], channels: usize, device: &Device) -> Result<Tensor> {
    let half = channels / 2;
    let step = -(10_000f64.ln()) as f32;
    let frequencies: Vec<f32> = (0..half).map(|i| (step * i as f32 / half as f32).exp()).collect();
    let angles = |t: f32| frequencies.iter().map(move |f| t * f);
    let rows: Vec<f32> =
        timesteps.iter().flat_map(|&t| angles(t).map(f32::cos).chain(angles(t).map(f32::sin))).collect();
    Tensor::from_vec(rows, (timesteps.len(), channels), device)
}
