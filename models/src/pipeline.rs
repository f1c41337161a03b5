//! The whole story of a picture: encode, noise, denoise, decode, check.

use crate::config::Configs;
use crate::denoise::{Denoised, Denoiser, Job, Probe, Watch, tell};
use crate::files::ModelFiles;
use crate::generate::{Control, GenerateRequest, Generated, LoadOptions, Observer, Step, Timings};
use crate::mmdit::Mmdit;
use crate::noise::Generator;
use crate::preview::{Pace, Previews};
use crate::safety::SafetyChecker;
use crate::schedule::Schedule;
use crate::text::{TextConditioning, TextEncoders};
use crate::vae::Decoder;
use crate::weights::{self, Target, Weights};
use crate::{Error, ModelCard, Picture, Result, SafetyOptions, Shortcuts, Verdict, builtin, picture};
use candle_core::Tensor;
use std::path::Path;
use std::time::Instant;

/// A loaded model. `Send`, used by one thread at a time.
pub struct Pipeline {
    card: ModelCard,
    configs: Configs,
    text: TextEncoders,
    denoiser: Denoiser,
    decoder: Decoder,
    target: Target,
    shortcuts: Shortcuts,
    files: ModelFiles,
    safety: Option<SafetyChecker>,
}

/// T5 lengths the encoder is used with (diffusers refuses more than 512).
const T5_TOKENS: std::ops::RangeInclusive<usize> = 1..=512;

impl Pipeline {
    /// Loads the built-in model.
    ///
    /// # Errors
    /// The device cannot be used, or this build has no built-in model.
    pub fn builtin(options: &LoadOptions) -> Result<Self> {
        Self::open(&builtin::files()?, ModelCard::builtin()?, options)
    }

    /// Loads a directory in the diffusers layout.
    ///
    /// # Errors
    /// One [`Error::Model`] lists every missing, unused and mis-shaped tensor.
    pub fn load(dir: &Path, options: &LoadOptions) -> Result<Self> {
        Self::open(&ModelFiles::directory(dir)?, ModelCard::read(dir)?, options)
    }

    fn open(files: &ModelFiles, card: ModelCard, options: &LoadOptions) -> Result<Self> {
        let target = Target::new(options)?;
        let configs = Configs::read(files)?;
        let mut problems = Vec::new();
        let has_t5 = configs.index.has_t5();
        let text = TextEncoders::load(files, &target, &configs.transformer, has_t5, &mut problems)?;
        let stem = "diffusion_pytorch_model";
        let weights = Weights::open(files, "transformer", stem, &target)?;
        let mmdit = Mmdit::load(&weights, &configs.transformer)?;
        problems.extend(weights.problems());
        let weights = Weights::open(files, "vae", stem, &target)?;
        let decoder = Decoder::load(&weights, &configs.vae)?;
        problems.extend(weights.problems());
        weights::check(&problems)?;
        let denoiser = Denoiser::new(mmdit, &target);
        let shortcuts = Shortcuts::default();
        let (files, safety) = (files.clone(), None);
        Ok(Self { card, configs, text, denoiser, decoder, target, shortcuts, files, safety })
    }

    /// Has every later picture looked at as `options` say; none is unless this is called. Returns whether there is a
    /// checker now.
    ///
    /// # Errors
    /// The checker cannot be loaded, or a forced one is not there.
    pub fn set_safety(&mut self, options: &SafetyOptions) -> Result<bool> {
        self.safety = SafetyChecker::load(&self.files, options, &self.target)?;
        Ok(self.safety.is_some())
    }

    /// What every later request may leave out; nothing unless this is called.
    pub fn set_shortcuts(&mut self, shortcuts: Shortcuts) {
        self.shortcuts = shortcuts;
    }

    /// The model's facts.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Ids of one text as CLIP-L, CLIP-G and T5 (empty without T5) see it, padded and cut.
    ///
    /// # Errors
    /// A tokenizer failed.
    pub fn token_ids(&self, text: &str, t5_tokens: usize) -> Result<[Vec<u32>; 3]> {
        self.text.token_ids(text, t5_tokens)
    }

    /// Paints. `observer` hears every step as it ends and can stop the request; while it wants previews, it gets some.
    ///
    /// # Errors
    /// [`Error::Request`] for what the model cannot do, [`Error::Stopped`], [`Error::NonFinite`], or a device's fault.
    pub fn generate(&mut self, request: &GenerateRequest, observer: &mut dyn Observer) -> Result<Generated> {
        self.run(request, observer, None)
    }

    /// [`Self::generate`] with a witness of every stage's tensors: `context`, `pooled`, `sigmas`, `noise`, then per
    /// step `prediction.N` (unconditional rows first, if it is guided) and `latents.N` from 0, then `decoded`.
    ///
    /// # Errors
    /// As [`Self::generate`], or what `probe` returns.
    pub fn trace(
        &mut self,
        request: &GenerateRequest,
        probe: &mut dyn FnMut(&str, &Tensor) -> Result<()>,
    ) -> Result<Generated> {
        self.run(request, &mut |_: Step| Control::Continue, Some(probe))
    }

    fn run(
        &mut self,
        request: &GenerateRequest,
        observer: &mut dyn Observer,
        mut probe: Probe,
    ) -> Result<Generated> {
        self.check(request)?;
        let started = Instant::now();
        let text = self.encode(request)?;
        tell(&mut probe, "context", &text.context)?;
        tell(&mut probe, "pooled", &text.pooled)?;
        self.target.device.synchronize()?;
        let encoded = Instant::now();
        let Denoised { latents, skipped, .. } = self.denoise(request, &text, observer, &mut probe)?;
        let denoised = Instant::now();
        let mut pictures = self.decode(request, &latents, &mut probe)?;
        let decoded = Instant::now();
        let verdicts = self.check_safety(request, &mut pictures)?;
        let timings = Timings {
            text: (encoded - started).as_secs_f64(),
            denoise: (denoised - encoded).as_secs_f64(),
            decode: (decoded - denoised).as_secs_f64(),
            safety: decoded.elapsed().as_secs_f64(),
            skipped,
        };
        Ok(Generated { pictures, verdicts, timings })
    }

    fn check(&self, request: &GenerateRequest) -> Result<()> {
        self.card.canvas(request.width, request.height)?;
        let complaint = if request.steps == 0 {
            "steps must be at least 1"
        } else if request.num_images == 0 {
            "num_images must be at least 1"
        } else if !request.guidance.is_finite() {
            "guidance must be a finite number"
        } else if !T5_TOKENS.contains(&request.t5_tokens) {
            "t5_tokens (max_sequence_length) must be 1 to 512"
        } else {
            return Ok(());
        };
        Err(Error::Request(complaint.into()))
    }

    /// Both prompts, one row a picture, the negative ones first; at guidance 1 or below the prompt alone.
    fn encode(&self, request: &GenerateRequest) -> Result<TextConditioning> {
        let both = [request.negative_prompt.as_str(), request.prompt.as_str()];
        let texts = if request.is_guided() { &both[..] } else { &both[1..] };
        let TextConditioning { context, pooled } = self.text.encode(texts, request.t5_tokens)?;
        let rows: Vec<u32> =
            (0..texts.len() as u32).flat_map(|row| std::iter::repeat_n(row, request.num_images)).collect();
        let rows = Tensor::new(rows, context.device())?;
        let (context, pooled) = (context.index_select(&rows, 0)?, pooled.index_select(&rows, 0)?);
        Ok(TextConditioning { context, pooled })
    }

    /// Noise to latents.
    fn denoise(
        &mut self,
        request: &GenerateRequest,
        text: &TextConditioning,
        observer: &mut dyn Observer,
        probe: &mut Probe,
    ) -> Result<Denoised> {
        let schedule = &Schedule::new(&self.configs.scheduler, request.steps);
        let noise = self.noise(request)?;
        tell(probe, "sigmas", &Tensor::new(schedule.sigmas.as_slice(), noise.device())?)?;
        tell(probe, "noise", &noise)?;
        let (guidance, shortcuts) = (request.guidance, self.shortcuts);
        let previews = Previews {
            decoder: &self.decoder,
            checker: checker(self.safety.as_ref(), request),
            dtype: self.target.dtype,
            factor: self.configs.vae.factor(),
            size: (request.width, request.height),
            pace: Pace::new(request.steps),
            withheld: false,
        };
        let probe = probe.as_mut().map(|probe| &mut **probe as &mut _);
        let mut watch = Watch { observer, previews: Some(previews), probe };
        self.denoiser.run(&Job { noise, text, schedule, guidance, shortcuts }, &mut watch)
    }

    /// One f32 draw from torch's CPU generator for all pictures, whatever the precision: `[N, C, h, w]`.
    fn noise(&self, request: &GenerateRequest) -> Result<Tensor> {
        let (channels, factor) = (self.configs.vae.latent_channels, self.configs.vae.factor());
        let (width, height) = self.card.canvas(request.width, request.height)?;
        let shape = (request.num_images, channels, height / factor, width / factor);
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let values = Generator::new(request.seed).normal(count);
        Ok(Tensor::from_vec(values, shape, &self.target.device)?)
    }

    /// One picture at a time, so that memory does not grow with their number.
    fn decode(&self, request: &GenerateRequest, latents: &Tensor, probe: &mut Probe) -> Result<Vec<Picture>> {
        let latents = latents.to_dtype(self.target.dtype)?;
        let pictures = (0..latents.dim(0)?).map(|index| {
            let pixels = self.decoder.decode(&latents.narrow(0, index, 1)?, 0)?;
            tell(probe, &format!("decoded.{index}"), &pixels)?;
            Ok(picture::from_pixels(&pixels)?.middle(request.width, request.height))
        });
        pictures.collect()
    }

    /// Makes unsafe pictures black, if there is a checker and the request or the operator wants it to look.
    fn check_safety(&self, request: &GenerateRequest, pictures: &mut [Picture]) -> Result<Vec<Verdict>> {
        checker(self.safety.as_ref(), request).map_or(Ok(Vec::new()), |checker| checker.judge(pictures))
    }
}

/// What looks at this request's pictures.
fn checker<'a>(safety: Option<&'a SafetyChecker>, request: &GenerateRequest) -> Option<&'a SafetyChecker> {
    safety.filter(|checker| request.check_safety || checker.forced)
}
