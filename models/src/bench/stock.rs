//! The stock engine: candle-transformers' own MMDiT in a plain Euler loop, as its example runs it. It is what a Rust program
//! uses otherwise, so it is measured in the same report, and tests hold ours to it.
//!
//! It is put together from candle's parts, because `mmdit::model::MMDiT` takes the number of heads for that of blocks and
//! its timestep embedding for f16 whatever its weights are (candle-transformers 0.11.1, mmdit/model.rs:84 and
//! mmdit/embedding.rs:167). Its last block leaves out the norms of the text's q and k (mmdit/projections.rs:38), so with
//! them its images are not diffusers'.

use super::{DenoiseRun, DenoiseSpec};
use crate::checkpoint::RowOrder;
use crate::checkpoint::diffusers_parts;
use crate::config::TransformerConfig;
use crate::error::Stage;
use crate::schedule::Schedule;
use crate::target::Target;
use crate::text::TextConditioning;
use crate::{Error, Result, Skipped, random};
use candle_core::{D, DType, Device, Module, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Activation, Init, Linear, VarBuilder};
use candle_transformers::models::mmdit::embedding::{
    PatchEmbedder, PositionEmbedder, Unpatchifier, VectorEmbedder,
};
use candle_transformers::models::mmdit::model::MMDiTCore;
use std::time::Instant;

/// The engine's name and version in reports.
pub const STOCK_ENGINE: &str = "candle-transformers 0.11.1";

/// Inputs of the timestep embedding.
const TIMESTEP_CHANNELS: usize = 256;

/// candle's MMDiT with random weights.
pub(super) struct StockMmdit {
    patches: PatchEmbedder,
    positions: PositionEmbedder,
    timestep: [Linear; 2],
    pooled: VectorEmbedder,
    context: Linear,
    core: MMDiTCore,
    unpatchifier: Unpatchifier,
    target: Target,
}

impl StockMmdit {
    /// With the weights that [`super::DenoiseBench::synthetic`] makes for the same config: equal ones on the CPU, others
    /// from the same distribution on a GPU.
    pub(super) fn synthetic(config: &TransformerConfig, target: &Target) -> Result<Self> {
        random::seed(&target.device, 0)?;
        let weights = SyntheticWeights { config: config.clone() };
        let root = VarBuilder::from_backend(Box::new(weights), target.dtype, target.device.clone());
        let (width, patch) = (config.width(), config.patch_size);
        let linear = |input, name| candle_nn::linear(input, width, root.pp(name));
        Ok(Self {
            patches: PatchEmbedder::new(patch, config.in_channels, width, root.pp("x_embedder"))?,
            positions: PositionEmbedder::new(width, patch, config.pos_embed_max_size, root.clone())?,
            timestep: [linear(TIMESTEP_CHANNELS, "t_embedder.mlp.0")?, linear(width, "t_embedder.mlp.2")?],
            pooled: VectorEmbedder::new(config.pooled_projection_dim, width, root.pp("y_embedder"))?,
            context: linear(config.joint_attention_dim, "context_embedder")?,
            core: MMDiTCore::new(
                config.num_layers,
                width,
                config.num_attention_heads,
                patch,
                config.out_channels(),
                false,
                root.clone(),
            )?,
            unpatchifier: Unpatchifier::new(patch, config.out_channels())?,
            target: target.clone(),
        })
    }

    /// One whole loop over noise `[N, C, h, w]` f32 and text of `2N` rows, the unconditional ones first, or of `N`
    /// without guidance: the finished latents, f32, and what it took.
    pub(super) fn run(
        &self,
        spec: &DenoiseSpec,
        noise: &Tensor,
        text: &TextConditioning,
        schedule: &Schedule,
    ) -> Result<(Tensor, DenoiseRun)> {
        let (count, rows) = (noise.dim(0)?, text.pooled.dim(0)?);
        let mut latents = noise.clone();
        let mut step_seconds = Vec::with_capacity(spec.steps);
        self.target.device.synchronize()?;
        let started = Instant::now();
        for (sigmas, timestep) in schedule.sigmas.windows(2).zip(&schedule.timesteps) {
            let step = Instant::now();
            let batch = Tensor::cat(&vec![&latents; rows / count], 0)?.to_dtype(self.target.dtype)?;
            let mut velocity = self.forward(&batch, *timestep, text)?.to_dtype(DType::F32)?;
            if rows > count {
                let (without, with) = (velocity.narrow(0, 0, count)?, velocity.narrow(0, count, count)?);
                velocity = (&without + ((with - &without)? * spec.guidance)?)?;
            }
            latents = (latents + (velocity * f64::from(sigmas[1] - sigmas[0]))?)?;
            self.target.device.synchronize()?;
            step_seconds.push(step.elapsed().as_secs_f64());
        }
        let seconds = started.elapsed().as_secs_f64();
        if !latents.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
            let stage = Stage::Step { step: spec.steps, of: spec.steps };
            return Err(Error::NonFinite { stage });
        }
        let (samples, skipped) = (rows * spec.steps, Skipped { unguided_steps: None, reused_steps: None });
        Ok((latents, DenoiseRun { seconds, step_seconds, samples, skipped }))
    }

    /// The velocity `[S, C, h, w]` of latents `[S, C, h, w]`; as `mmdit/model.rs:122`.
    fn forward(&self, latents: &Tensor, timestep: f32, text: &TextConditioning) -> Result<Tensor> {
        let (rows, _, height, width) = latents.dims4()?;
        let positions = self.positions.get_cropped_pos_embed(height, width)?;
        let image = self.patches.forward(latents)?.broadcast_add(&positions)?;
        let timestep = self.timestep_embedding(timestep, rows)?;
        let conditioning = (timestep + self.pooled.forward(&text.pooled)?)?;
        let context = self.context.forward(&text.context)?;
        let image = self.core.forward(&context, &image, &conditioning, None)?;
        let velocity = self.unpatchifier.unpatchify(&image, height, width)?;
        Ok(velocity.narrow(D::Minus2, 0, height)?.narrow(D::Minus1, 0, width)?)
    }

    fn timestep_embedding(&self, timestep: f32, rows: usize) -> Result<Tensor> {
        let half = TIMESTEP_CHANNELS / 2;
        let angle = |index: usize| timestep * (-(10_000f32.ln()) * index as f32 / half as f32).exp();
        let angles: Vec<f32> = (0..half).map(angle).collect();
        let waves = angles.iter().map(|angle| angle.cos()).chain(angles.iter().map(|angle| angle.sin()));
        let Target { device, dtype, .. } = &self.target;
        let waves = Tensor::from_iter(waves, device)?.reshape((1, TIMESTEP_CHANNELS))?.to_dtype(*dtype)?;
        let [first, second] = &self.timestep;
        let embedded = second.forward(&Activation::Silu.forward(&first.forward(&waves)?)?)?;
        Ok(embedded.broadcast_as((rows, embedded.dim(1)?))?.contiguous()?)
    }
}

/// Random weights under the names of the original layout, which candle asks for.
struct SyntheticWeights {
    config: TransformerConfig,
}

impl SimpleBackend for SyntheticWeights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let parts = diffusers_parts(name, self.config.num_layers);
        let mut rows = shape.dims().to_vec();
        rows[0] /= parts.len();
        let made = parts.iter().map(|(name, order)| {
            let made = random::weight(name, &rows, device, dtype)?;
            match order {
                RowOrder::Swapped => {
                    let half = rows[0] / 2;
                    Tensor::cat(&[made.narrow(0, half, half)?, made.narrow(0, 0, half)?], 0)
                }
                RowOrder::All | RowOrder::Third(_) => Ok(made),
            }
        });
        Tensor::cat(&made.collect::<candle_core::Result<Vec<_>>>()?, 0)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("the shape of {name} is not known")
    }

    /// candle asks this to find out which optional parts a block has.
    fn contains_tensor(&self, name: &str) -> bool {
        let block = name.strip_prefix("joint_blocks.").and_then(|rest| rest.split('.').next());
        let is_dual = block
            .and_then(|block| block.parse().ok())
            .is_some_and(|block| self.config.dual_attention_layers.contains(&block));
        (self.config.qk_norm.is_some() || !name.contains(".ln_")) && (is_dual || !name.contains(".attn2."))
    }
}
