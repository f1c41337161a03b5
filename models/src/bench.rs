//! Measuring the denoising loop alone: a transformer without text encoders or VAE, on real or random weights. And the VAE's
//! decoder alone.
//!
//! Plain data in and out, as everywhere at this crate's border. Inputs are random too: what a step costs does not
//! depend on what it generates.

mod flops;
mod gemm;
mod preset;
mod shortcuts;
mod stock;
mod vae;

pub use crate::ops::ProfileRow;
pub use stock::STOCK_ENGINE;
pub use vae::DecodeBench;

use crate::config::{Configs, SchedulerConfig, TransformerConfig};
use crate::denoise::{DenoiseInput, Denoised, Denoiser, LoopHooks};
use crate::generate::{Control, Observer, Step};
use crate::load_options::{DType, LoadOptions};
use crate::lora::AdaptedLayers;
use crate::mmdit::Mmdit;
use crate::planted::Planted;
use crate::probe::Probe;
use crate::schedule::Schedule;
use crate::target::Target;
use crate::text::TextConditioning;
use crate::weights::{self, Weights};
use crate::{Error, ModelCard, ModelSource, Result, Shortcuts, Skipped, ops, random};
use candle_core::Tensor;
use flops::Flops;
use std::time::Instant;
use stock::StockMmdit;

/// The seed of the inputs; weights have another.
const INPUTS: u64 = 1;

/// A published model with random weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synthetic {
    /// 38 blocks of width 2432, 8.1 billion parameters.
    Sd35Large,
    /// 24 blocks of width 1536, 13 of them with a second attention, 2.5 billion parameters.
    Sd35Medium,
}

impl Synthetic {
    /// The name that reports and flags use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sd35Large => "sd3.5-large",
            Self::Sd35Medium => "sd3.5-medium",
        }
    }
}

/// One measured request.
#[derive(Debug, Clone, PartialEq)]
pub struct DenoiseSpec {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Denoising steps, at least 1.
    pub steps: usize,
    /// Above 1 every image costs two samples a step.
    pub guidance: f64,
    /// Images denoised together, at least 1.
    pub batch: usize,
    /// Text tokens the image attends to: 77 of CLIP and those of T5.
    pub text_tokens: usize,
}

impl DenoiseSpec {
    /// Rows of the batch that the transformer sees.
    fn samples(&self) -> usize {
        if self.guidance > 1.0 { 2 * self.batch } else { self.batch }
    }

    fn check(&self, card: &ModelCard) -> Result<()> {
        card.check_size(self.width, self.height)?;
        for (name, value) in [("steps", self.steps), ("batch", self.batch), ("text tokens", self.text_tokens)]
        {
            if value == 0 {
                return Err(Error::Request(format!("{name} must be at least 1")));
            }
        }
        if self.guidance.is_finite() {
            Ok(())
        } else {
            Err(Error::Request("cfg must be a finite number".into()))
        }
    }
}

/// What one loop took.
#[derive(Debug, Clone, PartialEq)]
pub struct DenoiseRun {
    /// From noise and text on the device to finished latents on the device.
    pub seconds: f64,
    /// Of each step, by the device's own clock where it has one.
    pub step_seconds: Vec<f64>,
    /// Samples that went through every block, of all steps.
    pub samples: usize,
    /// What shortcuts left out.
    pub skipped: Skipped,
}

/// Where the time of one loop went.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Of the whole loop.
    pub seconds: f64,
    /// The ops, the most expensive first; what is missing to the whole is everything between them.
    pub rows: Vec<ProfileRow>,
}

/// A transformer, ready to run.
pub struct DenoiseBench {
    denoiser: Denoiser,
    config: TransformerConfig,
    scheduler: SchedulerConfig,
    card: ModelCard,
    target: Target,
    shortcuts: Shortcuts,
    stock: Option<StockMmdit>,
}

impl DenoiseBench {
    /// Random weights, made on the device; `blocks` cuts the model down to its first few. `free_bytes`: memory that is
    /// free on the device, where that is known.
    ///
    /// # Errors
    /// The device cannot be used, or has too little memory.
    pub fn synthetic(
        model: Synthetic,
        blocks: Option<usize>,
        options: &LoadOptions,
        free_bytes: Option<u64>,
    ) -> Result<Self> {
        let mut config = preset::transformer(model);
        let mut card = preset::card(model);
        if let Some(blocks) = blocks {
            if !(1..=config.num_layers).contains(&blocks) {
                let (name, all) = (model.name(), config.num_layers);
                return Err(Error::Request(format!("blocks must be 1 to {all} for {name}, not {blocks}")));
            }
            config.num_layers = blocks;
            config.dual_attention_layers.retain(|layer| *layer < blocks);
            card.name = format!("{} ({blocks} blocks)", card.name);
        }
        check_memory(&card.name, flops::parameters(&config), options.dtype, free_bytes)?;
        Self::random_weights(config, card, options)
    }

    fn random_weights(config: TransformerConfig, card: ModelCard, options: &LoadOptions) -> Result<Self> {
        let target = Target::new(options)?;
        let weights = Weights::random("transformer", &target)?;
        let mmdit = Mmdit::load(&weights, &config)?;
        let scheduler = preset::scheduler().map_err(|error| Error::Model(error.to_string()))?;
        Ok(Self::new(mmdit, config, scheduler, card, target))
    }

    /// The transformer of a model.
    ///
    /// # Errors
    /// One [`Error::Model`] lists every missing, unused and mis-shaped tensor; or the device cannot be used.
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Self> {
        let (files, card) = (&source.files()?, ModelCard::read(source)?);
        let target = Target::new(options)?.streaming(options.memory.of_transformer());
        let Configs { transformer: config, scheduler, .. } = Configs::read(files)?;
        let weights = Weights::open(files, "transformer", "diffusion_pytorch_model", &target)?;
        let mmdit = Mmdit::load(&weights, &config)?;
        weights::check(&weights.problems())?;
        Ok(Self::new(mmdit, config, scheduler, card, target))
    }

    fn new(
        mmdit: Mmdit,
        config: TransformerConfig,
        scheduler: SchedulerConfig,
        card: ModelCard,
        target: Target,
    ) -> Self {
        let adapted = AdaptedLayers::new(Vec::new(), &target, 0);
        let (denoiser, shortcuts) = (Denoiser::new(mmdit, adapted, &target), Shortcuts::default());
        Self { denoiser, config, scheduler, card, target, shortcuts, stock: None }
    }

    /// The model's name and limits.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Whether a step computes text and image on two streams.
    pub fn two_streams(&self) -> bool {
        self.target.ops.two_streams
    }

    /// Parameters of the transformer, its position table included.
    pub fn parameters(&self) -> u64 {
        flops::parameters(&self.config)
    }

    /// Operations of one run: twice the multiply-adds of linear layers and attention in every forward. A forward that a
    /// shortcut cut down to the first block counts as none.
    pub fn flops(&self, spec: &DenoiseSpec, run: &DenoiseRun) -> f64 {
        let multiple = self.card.size_multiple;
        let image = (spec.width / multiple) * (spec.height / multiple);
        let forward = Flops::of(&self.config, image, spec.text_tokens).total();
        forward * run.samples as f64
    }

    /// Operations a second (TFLOP/s) of the best of a few large matrix products, in the model's precision.
    ///
    /// # Errors
    /// The device failed.
    pub fn gemm_peak(&self) -> Result<f64> {
        gemm::peak(&self.target)
    }

    /// One whole loop. Making the inputs is not timed.
    ///
    /// # Errors
    /// [`Error::Request`] for what the model cannot do, [`Error::NonFinite`], or a device's fault.
    pub fn run(&mut self, spec: &DenoiseSpec) -> Result<DenoiseRun> {
        let mut step_seconds = Vec::with_capacity(spec.steps);
        let mut note = |step: Step| {
            step_seconds.push(step.seconds);
            Control::Continue
        };
        let (Denoised { rows, skipped, .. }, seconds) = self.denoise(spec, &mut note, None)?;
        Ok(DenoiseRun { seconds, step_seconds, samples: rows, skipped })
    }

    /// Loads the same model into the stock engine ([`STOCK_ENGINE`]) too, with random weights; in bf16 where ours is in fp8.
    /// `free_bytes`: memory that is free on the device, where that is known.
    ///
    /// # Errors
    /// The device has too little memory for it.
    pub fn add_stock_engine(&mut self, options: &LoadOptions, free_bytes: Option<u64>) -> Result<()> {
        check_memory(STOCK_ENGINE, self.parameters(), options.dtype, free_bytes)?;
        self.stock = Some(StockMmdit::synthetic(&self.config, &self.target)?);
        Ok(())
    }

    /// One whole loop of the stock engine, over the same inputs.
    ///
    /// # Errors
    /// As [`Self::run`]; [`Error::Request`] before [`Self::add_stock_engine`].
    pub fn run_stock_engine(&self, spec: &DenoiseSpec) -> Result<DenoiseRun> {
        Ok(self.stock_latents(spec)?.1)
    }

    fn stock_latents(&self, spec: &DenoiseSpec) -> Result<(Tensor, DenoiseRun)> {
        spec.check(&self.card)?;
        let stock =
            self.stock.as_ref().ok_or_else(|| Error::Request("the stock engine is not loaded".into()))?;
        let (text, noise) = self.inputs(spec)?;
        stock.run(spec, &noise, &text, &self.schedule(spec, &noise)?)
    }

    /// One whole loop with every op timed, none captured and, on a GPU, none overlapping the host's work on the next:
    /// the parts are exact, their sum is more than an ordinary run.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn profile(&mut self, spec: &DenoiseSpec) -> Result<Profile> {
        // With a probe no step is captured.
        let mut look = |_: &str, _: &Tensor| Ok(());
        let mut seconds = 0.0;
        let rows = ops::profile(|| {
            seconds = self.denoise(spec, &mut |_: Step| Control::Continue, Some(&mut look))?.1;
            Ok(())
        })?;
        Ok(Profile { seconds, rows })
    }

    /// One loop and its seconds.
    fn denoise<'a>(
        &mut self,
        spec: &DenoiseSpec,
        observer: &'a mut dyn Observer,
        probe: Probe<'a>,
    ) -> Result<(Denoised, f64)> {
        spec.check(&self.card)?;
        let (text, noise) = self.inputs(spec)?;
        let schedule = self.schedule(spec, &noise)?;
        let input = DenoiseInput {
            start: noise,
            kept: None,
            steps_done: 0,
            state_settings: None,
            text: &text,
            schedule: &schedule,
            guidance: spec.guidance,
            skip_layers: None,
            control: None,
            image: None,
            shortcuts: self.shortcuts,
        };
        self.target.device.synchronize()?;
        let started = Instant::now();
        let mut hooks = LoopHooks { observer, previews: None, probe, planted: Planted::default() };
        let denoised = self.denoiser.run(&input, &mut hooks)?;
        self.target.device.synchronize()?;
        Ok((denoised, started.elapsed().as_secs_f64()))
    }

    /// The noise levels for latents like `noise [N, C, h, w]`.
    fn schedule(&self, spec: &DenoiseSpec, noise: &Tensor) -> Result<Schedule> {
        let (_, _, height, width) = noise.dims4()?;
        Ok(Schedule::new(&self.scheduler, spec.steps, self.config.tokens(height, width)))
    }

    /// Text `[S, Lt, joint]` and `[S, pooled]`, noise `[N, C, h, w]` f32; the same each time.
    fn inputs(&self, spec: &DenoiseSpec) -> Result<(TextConditioning, Tensor)> {
        let Target { device, dtype, .. } = &self.target;
        random::seed(device, INPUTS)?;
        let (samples, config) = (spec.samples(), &self.config);
        let factor = self.card.size_multiple / config.patch_size;
        let normal = |name: &str, shape: &[usize]| random::normal(name, shape, 0.0, 1.0, device);
        let context = normal("context", &[samples, spec.text_tokens, config.joint_attention_dim])?;
        let pooled = normal("pooled", &[samples, config.pooled_projection_dim])?;
        let noise =
            normal("noise", &[spec.batch, config.in_channels, spec.height / factor, spec.width / factor])?;
        let text = TextConditioning { context: context.to_dtype(*dtype)?, pooled: pooled.to_dtype(*dtype)? };
        Ok((text, noise))
    }
}

/// Refuses a model that cannot fit into the device's free memory, where that is known.
fn check_memory(name: &str, parameters: u64, dtype: DType, free: Option<u64>) -> Result<()> {
    let bytes = match dtype {
        DType::F32 => 4 * parameters,
        DType::Bf16 => 2 * parameters,
        // adaLN, a third of the parameters, stays in bf16.
        DType::Fp8 => 4 * parameters / 3,
    };
    // Making a tensor takes a copy of it for a moment, and a run some activations.
    let needed = bytes + bytes / 16;
    match free {
        Some(free) if free < needed => {
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            Err(Error::Device(format!(
                "{name} needs {:.1} GB in {} and the device has {:.1} GB free: measure sd3.5-medium, fewer blocks, another \
                 precision or another device",
                gigabytes(needed),
                dtype.name(),
                gigabytes(free)
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
