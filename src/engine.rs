//! The engine: one synchronous trait, and its adapter over the model package.
//!
//! No tensor crosses this file: requests go in, 8-bit images come out.

mod model_pool;
pub mod recovery;
mod uses;

pub use model_pool::{ModelPool, ModelSlot};

use crate::config::EngineConfig;
use crate::model_error::{self, ModelError};
use latentd_models as models;
pub use latentd_models::{
    Control, ControlNet, Decoding, Generated, Image, ImageEncoderFiles, InitImage, IpAdapter, Lora, Measure,
    Observer, SafetyVerdict, Step, Timings,
};
use latentd_request::{ImageRequest, Score, SkipLayers, StageSeconds};
use std::sync::Arc;

/// Why an engine generated no image.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model cannot do what the request asks; trying again will not help.
    #[error("{0}")]
    Request(String),
    /// A LoRA adapter of the request cannot be used.
    #[error("{message}")]
    Adapter {
        /// Number of the adapter in the request, from 0; `None` where it is all of them together.
        index: Option<usize>,
        /// What does not fit.
        message: String,
    },
    /// The ControlNet of the request cannot be used.
    #[error("{0}")]
    ControlNet(String),
    /// The IP-Adapter of the request cannot be used.
    #[error("{0}")]
    IpAdapter(String),
    /// The image encoder of the request's IP-Adapter cannot be used.
    #[error("{0}")]
    ImageEncoder(String),
    /// The observer asked to stop.
    #[error("stopped")]
    Stopped,
    /// The model that the request asks for cannot be loaded now; others can be used.
    #[error("{0}")]
    Load(String),
    /// A value was not finite in this request; the engine itself is fine.
    #[error("{0}")]
    Numbers(String),
    /// The device has no memory left for this request; the engine itself is fine, and memory can be freed.
    #[error("{0}")]
    OutOfMemory(String),
    /// The engine cannot be trusted any more: its process must end.
    #[error("{0}")]
    Fault(String),
}

/// The progress of loading a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Loading {
    /// It starts.
    Begins {
        /// The model's name in log lines.
        model: String,
        /// The models that are loaded meanwhile, by the names that requests have.
        loaded: Vec<String>,
    },
    /// It is loaded.
    Done {
        /// Seconds that loading took.
        seconds: f64,
        /// The models that are loaded now.
        loaded: Vec<String>,
    },
}

/// What a request brings in files, fetched.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// What to start from; generated from noise alone where there is none.
    pub init_image: Option<InitImage>,
    /// LoRA adapters, summed.
    pub loras: Vec<Lora>,
    /// A ControlNet with its control image.
    pub controlnet: Option<ControlNet>,
    /// An IP-Adapter with its image prompt.
    pub ip_adapter: Option<IpAdapter>,
}

/// Generates images, one request at a time, on the thread that calls it.
pub trait Engine: Send {
    /// Loads the model of a request, if it is not loaded; `on_loading` is called before and after.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn prepare(
        &mut self,
        _request: &ImageRequest,
        _on_loading: &mut dyn FnMut(Loading),
    ) -> Result<(), EngineError> {
        Ok(())
    }

    /// Generates, from noise or from an image; `observer` is called after every step, can stop the request, and gets
    /// previews while it wants them.
    ///
    /// # Errors
    /// See [`EngineError`]; after a [`EngineError::Fault`] the engine is not called again.
    fn generate(
        &mut self,
        request: &ImageRequest,
        inputs: Inputs,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError>;

    /// Whether the images of one request can be decoded on another thread while the engine runs the next, without slowing it
    /// down.
    fn stages_overlap(&self) -> bool {
        true
    }

    /// Frees all memory of the device that `request` does not need: what is kept to make other requests faster, and models
    /// that are not in use. Returns without waiting for a use to end.
    ///
    /// # Errors
    /// See [`EngineError`].
    fn free_memory(&mut self, _request: &ImageRequest) -> Result<(), EngineError> {
        Ok(())
    }

    /// Encodes prompts of waiting requests on another thread, if that does not slow down the request that runs.
    fn prefetch(&self) -> Option<Prefetch> {
        None
    }

    /// The models that are loaded, by the names that requests have.
    fn loaded(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The rest of the work for a request's images: decoding, and the safety check. Any thread may do it while the engine
/// runs the next request. It can be done once more when it ended with [`EngineError::OutOfMemory`].
pub type PendingImages = Box<dyn FnMut(Decoding) -> Result<Generated, EngineError> + Send>;

/// Encodes the prompts of a request.
pub type Prefetch = Arc<dyn Fn(&ImageRequest) -> Result<(), EngineError> + Send + Sync>;

/// Loads an engine, on the thread that will run it.
pub type Loader = Box<dyn FnOnce() -> Result<Box<dyn Engine>, EngineError> + Send>;

/// Loads a model.
///
/// # Errors
/// What does not fit, in one line or a list.
pub fn open(
    model: &models::ModelSource,
    config: &EngineConfig,
    memory: models::MemoryMode,
) -> model_error::Result<models::Pipeline> {
    let mut pipeline = models::Pipeline::load(model, &load_options(config, memory))?;
    pipeline.set_shortcuts(config.shortcuts);
    if !pipeline.has_t5() {
        tracing::info!(%model, "the model runs without T5: long prompts are understood less well");
    }
    Ok(pipeline)
}

/// Why a model could not be loaded: it is damaged or does not fit, or the device cannot be trusted any more.
pub(crate) fn load_error(error: ModelError) -> EngineError {
    match error.0 {
        models::Error::Model(_)
        | models::Error::MissingParts { .. }
        | models::Error::NoProbability { .. }
        | models::Error::Fp8(_)
        | models::Error::Io { .. } => EngineError::Load(error.to_string()),
        other => other.into(),
    }
}

/// The options by which a configuration's model is loaded.
pub(crate) fn load_options(config: &EngineConfig, memory: models::MemoryMode) -> models::LoadOptions {
    let cache = Some(config.cache.clone());
    let EngineConfig { t5, shift, .. } = *config;
    models::LoadOptions { cache, t5, shift, memory, ..models::LoadOptions::new(config.device, config.dtype) }
}

/// The stage timings of a request, with the seconds of encoding its files and, if it had to be, of loading its model.
pub fn stage_seconds(timings: Timings, encode: f64, load: Option<f64>) -> StageSeconds {
    let Timings { text, denoise, decode, safety: _, known_prompts, skipped } = timings;
    let models::Skipped { unguided_steps, reused_steps } = skipped;
    StageSeconds {
        text,
        denoise,
        decode,
        encode,
        load,
        known_prompts: (known_prompts > 0).then_some(known_prompts),
        unguided_steps,
        first_block_cache_reused_steps: reused_steps,
    }
}

/// The safety checker's score of an image, as the output stores it.
pub fn score(verdict: &SafetyVerdict) -> Score {
    let measure = match verdict.measure {
        Measure::Probability => latentd_request::Measure::Probability,
        Measure::Margin => latentd_request::Measure::Margin,
    };
    Score { value: Some(verdict.score).filter(|score| score.is_finite()), measure }
}

/// Stable Diffusion 3.5.
pub struct Sd3Engine {
    pipeline: models::Pipeline,
    t5_tokens: usize,
}

impl Sd3Engine {
    /// Wraps a loaded pipeline; prompts are padded or cut to `t5_tokens`.
    pub fn new(pipeline: models::Pipeline, t5_tokens: usize) -> Self {
        Self { pipeline, t5_tokens }
    }
}

impl Engine for Sd3Engine {
    fn generate(
        &mut self,
        request: &ImageRequest,
        inputs: Inputs,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        let Inputs { init_image, loras, controlnet, ip_adapter } = inputs;
        let request = model_request(request, self.t5_tokens);
        let request = models::GenerateRequest { init_image, loras, controlnet, ip_adapter, ..request };
        let pending = self.pipeline.generate_latents(&request, observer)?;
        Ok(Box::new(move |decoding| Ok(pending.decode(decoding)?)))
    }

    fn stages_overlap(&self) -> bool {
        self.pipeline.stages_overlap()
    }

    fn free_memory(&mut self, _request: &ImageRequest) -> Result<(), EngineError> {
        Ok(self.pipeline.free_memory()?)
    }

    fn prefetch(&self) -> Option<Prefetch> {
        let (prefetcher, t5_tokens) = (self.pipeline.prefetcher(), self.t5_tokens);
        let prefetch =
            move |request: &ImageRequest| Ok(prefetcher.prefetch(&model_request(request, t5_tokens))?);
        self.pipeline.stages_overlap().then(|| Arc::new(prefetch) as Prefetch)
    }
}

fn model_request(request: &ImageRequest, t5_tokens: usize) -> models::GenerateRequest {
    models::GenerateRequest {
        prompt: request.prompt.clone(),
        negative_prompt: request.negative_prompt.clone(),
        width: request.width,
        height: request.height,
        steps: request.steps,
        guidance: request.guidance,
        seed: request.seed.bits(),
        num_images: request.num_images,
        skipped_images: request.image_offset,
        t5_tokens,
        check_safety: request.check_safety,
        init_image: None,
        loras: Vec::new(),
        skip_layers: request.skip_layers.as_ref().map(skip_layers),
        controlnet: None,
        ip_adapter: None,
    }
}

/// Skip-layer guidance, as the model takes it.
pub(crate) fn skip_layers(asked: &SkipLayers) -> models::SkipLayerGuidance {
    let SkipLayers { layers, scale, start, stop } = asked;
    models::SkipLayerGuidance { layers: layers.clone(), scale: *scale, start: *start, stop: *stop }
}

impl From<models::Error> for EngineError {
    fn from(error: models::Error) -> Self {
        let error = ModelError(error);
        let text = error.to_string();
        match error.0 {
            models::Error::Request(_) => Self::Request(text),
            models::Error::Adapter { index, .. } => Self::Adapter { index, message: text },
            models::Error::ControlNet(_) => Self::ControlNet(text),
            models::Error::IpAdapter(_) => Self::IpAdapter(text),
            models::Error::ImageEncoder(_) => Self::ImageEncoder(text),
            models::Error::Stopped { .. } => Self::Stopped,
            models::Error::NonFinite { .. } => Self::Numbers(text),
            models::Error::OutOfMemory => Self::OutOfMemory(text),
            models::Error::Model(_)
            | models::Error::MissingParts { .. }
            | models::Error::NoProbability { .. }
            | models::Error::Fp8(_)
            | models::Error::Device(_)
            | models::Error::Tensor(_)
            | models::Error::Io { .. } => Self::Fault(text),
        }
    }
}
