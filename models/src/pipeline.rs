//! The whole story of a picture: encode, noise, denoise, decode, check.

use crate::config::Configs;
use crate::denoise::{Denoised, Denoiser, Job, Watch};
use crate::files::ModelFiles;
use crate::finish::{Finisher, Painted, take};
use crate::generate::{Control, GenerateRequest, Generated, Observer, Step, Timings};
use crate::load_options::LoadOptions;
use crate::mmdit::Mmdit;
use crate::preview::{Pace, Previews};
use crate::probe::{Probe, tell};
use crate::prompts::{Encoded, Prompts};
use crate::safety::SafetyChecker;
use crate::schedule::Schedule;
use crate::start::Start;
use crate::target::Target;
use crate::text::{TextConditioning, TextEncoders};
use crate::vae::Decoder;
use crate::weights::{self, Weights};
use crate::{Error, ModelCard, ModelSource, Result, SafetyOptions, Shortcuts};
use candle_core::{Device, Tensor};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A loaded model. `Send`, used by one thread at a time; what it lends to others has a stage of its own.
///
/// Each stage has its own weights and, on a GPU, its own stream, and hands on through host memory.
pub struct Pipeline {
    card: ModelCard,
    configs: Configs,
    prompts: Arc<Mutex<Prompts>>,
    start: Start,
    denoiser: Denoiser,
    finisher: Arc<Mutex<Finisher>>,
    /// Of the denoiser.
    target: Target,
    shortcuts: Shortcuts,
    files: ModelFiles,
}

/// Encodes prompts of requests to come, on any thread.
pub struct Prefetcher(Arc<Mutex<Prompts>>);

/// T5 lengths the encoder is used with (diffusers refuses more than 512).
const T5_TOKENS: std::ops::RangeInclusive<usize> = 1..=512;

impl Pipeline {
    /// Loads a model.
    ///
    /// # Errors
    /// One [`Error::Model`] lists every missing, unused and mis-shaped tensor; or the device cannot be used.
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Self> {
        let (files, card) = (&source.files()?, ModelCard::read(source)?);
        // Each is a stream of its own on a GPU.
        let [first, target, last] = [Target::new(options)?, Target::new(options)?, Target::new(options)?];
        let mut configs = Configs::read(files)?;
        if let (Some(shift), ModelSource::Checkpoint { .. }) = (options.shift, source) {
            configs.scheduler.shift = shift;
        }
        let mut problems = Vec::new();
        let has_t5 = options.t5 && configs.index.has_t5();
        let encoders = TextEncoders::load(files, &first, &configs.transformer, has_t5, &mut problems)?;
        let stem = "diffusion_pytorch_model";
        let weights = Weights::open(files, "transformer", stem, &target)?;
        let mmdit = Mmdit::load(&weights, &configs.transformer)?;
        problems.extend(weights.problems());
        let start = Start::load(files, &configs.vae, &target, &mut problems)?;
        let weights = Weights::open(files, "vae", stem, &last)?;
        let decoder = Decoder::load(&weights, &configs.vae)?;
        problems.extend(weights.problems());
        weights::check(&problems)?;
        Ok(Self {
            card,
            configs,
            prompts: Arc::new(Mutex::new(Prompts::new(encoders))),
            start,
            denoiser: Denoiser::new(mmdit, &target),
            finisher: Arc::new(Mutex::new(Finisher { decoder, safety: None, target: last })),
            target,
            shortcuts: Shortcuts::default(),
            files: files.clone(),
        })
    }

    /// Has every later picture looked at as `options` say; none is unless this is called. Returns whether there is a
    /// checker now.
    ///
    /// # Errors
    /// The checker cannot be loaded, or a forced one is not there.
    pub fn set_safety(&mut self, options: &SafetyOptions) -> Result<bool> {
        let mut finisher = take(&self.finisher);
        finisher.safety = SafetyChecker::load(&self.files, options, &finisher.target)?;
        Ok(finisher.safety.is_some())
    }

    /// What every later request may leave out; nothing unless this is called.
    pub fn set_shortcuts(&mut self, shortcuts: Shortcuts) {
        self.shortcuts = shortcuts;
    }

    /// Encodes every later prompt anew, for who measures that.
    pub fn forget_prompts(&mut self) {
        take(&self.prompts).forget(0);
    }

    /// What encodes prompts ahead, while this paints.
    pub fn prefetcher(&self) -> Prefetcher {
        Prefetcher(self.prompts.clone())
    }

    /// Whether stages at work at the same time take little from each other.
    pub fn stages_overlap(&self) -> bool {
        self.target.device.is_cuda()
    }

    /// The model's facts.
    pub fn card(&self) -> &ModelCard {
        &self.card
    }

    /// Whether T5 reads the prompts too.
    pub fn has_t5(&self) -> bool {
        self.configs.index.has_t5()
    }

    /// Ids of one text as CLIP-L, CLIP-G and T5 (empty without T5) see it, padded and cut.
    ///
    /// # Errors
    /// A tokenizer failed.
    pub fn token_ids(&self, text: &str, t5_tokens: usize) -> Result<[Vec<u32>; 3]> {
        take(&self.prompts).token_ids(text, t5_tokens)
    }

    /// Paints. `observer` hears every step as it ends and can stop the request; while it wants previews, it gets some.
    ///
    /// # Errors
    /// [`Error::Request`] for what the model cannot do, [`Error::Stopped`], [`Error::NonFinite`], or a device's fault.
    pub fn generate(&mut self, request: &GenerateRequest, observer: &mut dyn Observer) -> Result<Generated> {
        self.paint(request, observer)?.finish()
    }

    /// [`Self::generate`] without the last stage.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn paint(&mut self, request: &GenerateRequest, observer: &mut dyn Observer) -> Result<Painted> {
        self.paint_before(request, observer, &mut None)
    }

    /// [`Self::generate`] with a witness of every stage's tensors: `context`, `pooled`, `sigmas`, `start`, then per
    /// step `prediction.N` (unconditional rows first, if it is guided) and `latents.N` from 0, then `decoded`.
    ///
    /// # Errors
    /// As [`Self::generate`], or what `probe` returns.
    pub fn trace(
        &mut self,
        request: &GenerateRequest,
        probe: &mut dyn FnMut(&str, &Tensor) -> Result<()>,
    ) -> Result<Generated> {
        let mut probe: Probe = Some(probe);
        let painted = self.paint_before(request, &mut |_: Step| Control::Continue, &mut probe)?;
        painted.finish_before(&mut probe)
    }

    fn paint_before(
        &mut self,
        request: &GenerateRequest,
        observer: &mut dyn Observer,
        probe: &mut Probe,
    ) -> Result<Painted> {
        check(&self.card, request)?;
        let started = Instant::now();
        if let Some(words) = self.card.beyond_training(request.width, request.height) {
            observer.note(&words);
        }
        let (text, known_prompts) = self.encode(request, observer)?;
        tell(probe, "context", &text.context)?;
        tell(probe, "pooled", &text.pooled)?;
        let encoded = Instant::now();
        let Denoised { latents, skipped, .. } = self.denoise(request, &text, observer, probe)?;
        let latents = latents.to_device(&Device::Cpu)?;
        let timings = Timings {
            text: (encoded - started).as_secs_f64(),
            denoise: encoded.elapsed().as_secs_f64(),
            known_prompts,
            skipped,
            ..Timings::default()
        };
        Ok(Painted { finisher: self.finisher.clone(), request: request.clone(), latents, timings })
    }

    /// Both prompts, one row a picture, the negative ones first; and how many were known. `observer` hears of what the
    /// encoders do not see.
    fn encode(
        &self,
        request: &GenerateRequest,
        observer: &mut dyn Observer,
    ) -> Result<(TextConditioning, usize)> {
        let Encoded { texts, cuts, known } =
            take(&self.prompts).encode(&texts(request), request.t5_tokens)?;
        // The prompt is the last.
        for (cuts, name) in cuts.iter().rev().zip(["prompt", "negative prompt"]) {
            cuts.iter().for_each(|cut| observer.note(&cut.words(name)));
        }
        let texts = texts.iter().map(|text| text.on(&self.target.device)).collect::<Result<Vec<_>>>()?;
        let rows = |of: fn(&TextConditioning) -> &Tensor| {
            let rows = texts.iter().flat_map(|text| std::iter::repeat_n(of(text), request.num_images));
            Tensor::cat(&rows.collect::<Vec<_>>(), 0)
        };
        let (context, pooled) = (rows(|text| &text.context)?, rows(|text| &text.pooled)?);
        Ok((TextConditioning { context, pooled }, known))
    }

    /// Noise to latents.
    fn denoise(
        &mut self,
        request: &GenerateRequest,
        text: &TextConditioning,
        observer: &mut dyn Observer,
        probe: &mut Probe,
    ) -> Result<Denoised> {
        let schedule = Schedule::new(&self.configs.scheduler, request.steps);
        let schedule = &match &request.begin {
            Some(begin) => schedule.last(begin.strength),
            None => schedule,
        };
        let noise = self.start.latents(
            request,
            self.card.canvas(request.width, request.height)?,
            schedule.sigmas[0],
        )?;
        tell(probe, "sigmas", &Tensor::new(schedule.sigmas.as_slice(), noise.device())?)?;
        tell(probe, "start", &noise)?;
        let (guidance, shortcuts) = (request.guidance, self.shortcuts);
        let previews = Previews {
            finisher: &self.finisher,
            request,
            factor: self.configs.vae.factor(),
            pace: Pace::new(request.steps),
            withheld: false,
        };
        let probe = probe.as_mut().map(|probe| &mut **probe as &mut _);
        let mut watch = Watch { observer, previews: Some(previews), probe };
        self.denoiser.run(&Job { noise, text, schedule, guidance, shortcuts }, &mut watch)
    }
}

impl Prefetcher {
    /// Encodes what [`Pipeline::paint`] would encode first, unless the encoders are at work.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn prefetch(&self, request: &GenerateRequest) -> Result<()> {
        match self.0.try_lock() {
            Ok(mut prompts) => prompts.encode(&texts(request), request.t5_tokens).map(drop),
            Err(_) => Ok(()),
        }
    }
}

/// What a request has encoded: at guidance 1 or below the prompt alone.
fn texts(request: &GenerateRequest) -> Vec<&str> {
    let both = [request.negative_prompt.as_str(), request.prompt.as_str()];
    if request.is_guided() { both.to_vec() } else { both[1..].to_vec() }
}

fn check(card: &ModelCard, request: &GenerateRequest) -> Result<()> {
    card.canvas(request.width, request.height)?;
    let complaint = if request.steps == 0 {
        "steps must be at least 1"
    } else if request.num_images == 0 {
        "num_images must be at least 1"
    } else if !request.guidance.is_finite() {
        "guidance must be a finite number"
    } else if request.begin.as_ref().is_some_and(|begin| !(begin.strength > 0.0 && begin.strength <= 1.0)) {
        "strength must be above 0 and at most 1"
    } else if !T5_TOKENS.contains(&request.t5_tokens) {
        "t5_tokens (max_sequence_length) must be 1 to 512"
    } else {
        return Ok(());
    };
    Err(Error::Request(complaint.into()))
}
