//! The pipeline of a request: encode the prompts, sample noise, denoise, decode, check.

mod denoising;

use crate::checked;
use crate::config::Configs;
use crate::controlnet::ControlNetStore;
use crate::decode::{DecodeStage, Decoding, PendingImages, lock};
use crate::denoise::{Denoised, Denoiser};
use crate::files::ModelFiles;
use crate::generate::{Control, GenerateRequest, Generated, Observer, Step, Timings};
use crate::initial_latents::InitialLatents;
use crate::ip_adapter::IpAdapterStore;
use crate::load_options::LoadOptions;
use crate::lora::{self, AdaptedLayers, AdapterSet, AdapterStore, LayerMap};
use crate::low_rank::Network;
use crate::mmdit::Mmdit;
use crate::planted::Planted;
use crate::probe::{Probe, report_tensor};
use crate::prompts::{Encoded, Prompts};
use crate::safety::SafetyChecker;
use crate::target::Target;
use crate::text::{TextConditioning, TextEncoders};
use crate::vae::Decoder;
use crate::vocabulary::Vocabulary;
use crate::weights::{self, Weights};
use crate::{Error, ModelCard, ModelSource, Result, SafetyOptions, Shortcuts, gpu};
use candle_core::{Device, Tensor};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A loaded model. `Send`, used by one thread at a time; what it lends to others has a stage of its own.
///
/// Each stage has its own weights and, on a GPU, its own stream, and hands on through host memory.
pub struct Pipeline {
    /// Of all stages. Dropped before the targets, whose handles close a device: one that is still in use then keeps its memory.
    devices: [Device; 3],
    card: ModelCard,
    configs: Configs,
    prompts: Arc<Mutex<Prompts>>,
    adapters: Arc<Mutex<AdapterStore>>,
    controlnets: ControlNetStore,
    ip_adapters: IpAdapterStore,
    initial_latents: InitialLatents,
    denoiser: Denoiser,
    decode_stage: Arc<Mutex<DecodeStage>>,
    /// Of the denoiser.
    target: Target,
    shortcuts: Shortcuts,
    files: ModelFiles,
    vocabulary: Option<Vocabulary>,
    planted: Planted,
}

/// Encodes prompts of requests to come, on any thread.
pub struct Prefetcher {
    prompts: Arc<Mutex<Prompts>>,
    adapters: Arc<Mutex<AdapterStore>>,
}

impl Pipeline {
    /// Loads a model.
    ///
    /// # Errors
    /// One [`Error::Model`] lists every missing, unused and mis-shaped tensor; or the device cannot be used.
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Self> {
        let (files, card) = (&source.files()?, ModelCard::read(source)?);
        // Each is a stream of its own on a GPU.
        let first = Target::new(options)?.streaming(options.memory.of_text());
        let target = Target::new(options)?.streaming(options.memory.of_transformer());
        let last = Target::new(options)?;
        let mut configs = Configs::read(files)?;
        if let (Some(shift), ModelSource::Checkpoint { .. }) = (options.shift, source) {
            configs.scheduler.shift = shift;
        }
        let mut problems = Vec::new();
        if !options.t5 {
            configs.index.text_encoder_3 = None;
        }
        let has_t5 = configs.index.has_t5();
        let mut encoders = TextEncoders::load(files, &first, &configs.transformer, has_t5, &mut problems)?;
        let stem = "diffusion_pytorch_model";
        let weights = Weights::open(files, "transformer", stem, &target)?;
        let mmdit = Mmdit::load(&weights, &configs.transformer)?;
        let layers = vec![(Network::Transformer, weights.take_sites())];
        let (parameters, element) = (weights.parameters(), target.dtype.size_in_bytes() as u64);
        let limit = lora::limit(parameters, element);
        let controlnets = ControlNetStore::new(&configs.transformer, &target, parameters * element);
        let ip_adapters = IpAdapterStore::new(&configs.transformer, &target, parameters * element);
        problems.extend(weights.problems());
        let initial_latents = InitialLatents::load(files, &configs.vae, &target, &mut problems)?;
        let weights = Weights::open(files, "vae", stem, &last)?;
        let decoder = Decoder::load(&weights, &configs.vae)?;
        problems.extend(weights.problems());
        weights::check(&problems)?;
        let adapted = AdaptedLayers::new(layers, &target, limit);
        let adapted_text = AdaptedLayers::new(encoders.take_sites(), &first, limit);
        let networks = adapted.networks().chain(adapted_text.networks());
        let map = LayerMap::new(networks, configs.transformer.num_layers);
        let adapters = Arc::new(Mutex::new(AdapterStore::new(map, target.dtype, limit)));
        let planted = Planted::default();
        let devices = [&first, &target, &last].map(|target| target.device.clone());
        let decode_stage = DecodeStage { decoder, safety: None, target: last, planted: planted.clone() };
        Ok(Self {
            card,
            configs,
            prompts: Arc::new(Mutex::new(Prompts::new(encoders, adapted_text))),
            adapters,
            controlnets,
            ip_adapters,
            initial_latents,
            denoiser: Denoiser::new(mmdit, adapted, &target),
            decode_stage: Arc::new(Mutex::new(decode_stage)),
            target,
            devices,
            shortcuts: Shortcuts::default(),
            files: files.clone(),
            vocabulary: Vocabulary::read(files)?,
            planted,
        })
    }

    /// Checks every later image as `options` say; none is checked unless this is called. Returns whether there is a
    /// checker now.
    ///
    /// # Errors
    /// The checker cannot be loaded, or a forced one is not there.
    pub fn set_safety(&mut self, options: &SafetyOptions) -> Result<bool> {
        let mut decode_stage = lock(&self.decode_stage);
        decode_stage.safety = SafetyChecker::load(&self.files, options, &decode_stage.target)?;
        Ok(decode_stage.safety.is_some())
    }

    /// What every later request may leave out; nothing unless this is called.
    pub fn set_shortcuts(&mut self, shortcuts: Shortcuts) {
        self.shortcuts = shortcuts;
    }

    /// Encodes every later prompt anew, for benchmarks.
    pub fn forget_prompts(&mut self) {
        lock(&self.prompts).forget(0);
    }

    /// Frees what is kept to make later requests faster: captured steps, adapters, a ControlNet, an
    /// IP-Adapter and encoded prompts. On a GPU all memory that is not in use goes back to the driver.
    ///
    /// # Errors
    /// A device's fault.
    pub fn free_memory(&mut self) -> Result<()> {
        // A step that failed may have left work that uses what is dropped.
        self.target.device.synchronize()?;
        self.denoiser.forget();
        lock(&self.adapters).forget();
        self.controlnets.forget();
        self.ip_adapters.forget();
        let mut prompts = lock(&self.prompts);
        prompts.forget_adapters();
        prompts.forget(0);
        drop(prompts);
        Ok(self.devices.iter().try_for_each(gpu::free_unused)?)
    }

    /// Has each of these allocations fail once, for tests.
    #[cfg(feature = "planted-failures")]
    pub fn plant(&self, failures: &[crate::Allocation]) {
        self.planted.plant(failures);
    }

    /// Encodes prompts ahead, while this generates.
    pub fn prefetcher(&self) -> Prefetcher {
        Prefetcher { prompts: self.prompts.clone(), adapters: self.adapters.clone() }
    }

    /// Whether stages can run at the same time without slowing each other down.
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
        lock(&self.prompts).token_ids(text, t5_tokens)
    }

    /// Generates. `observer` is called after every step and can stop the request; while it wants previews, it gets some. What
    /// the device has no memory to decode as a whole is decoded in tiles.
    ///
    /// # Errors
    /// [`Error::Request`] for what the model cannot do, [`Error::Adapter`], [`Error::Stopped`], [`Error::NonFinite`], [`Error::OutOfMemory`], or
    /// a device's fault.
    pub fn generate(&mut self, request: &GenerateRequest, observer: &mut dyn Observer) -> Result<Generated> {
        let pending = self.generate_latents(request, observer)?;
        match pending.decode(Decoding::Whole) {
            Err(Error::OutOfMemory) => {
                observer.note("the device ran out of memory while decoding: decoding in tiles");
                self.free_memory()?;
                pending.decode(Decoding::Tiled)
            }
            decoded => decoded,
        }
    }

    /// [`Self::generate`] without the last stage.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_latents(
        &mut self,
        request: &GenerateRequest,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages> {
        self.generate_latents_probed(request, observer, &mut None)
    }

    /// [`Self::generate`] with a probe of every stage's tensors: `context`, `pooled`, `sigmas`, `start`, then per
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
        let pending = self.generate_latents_probed(request, &mut |_: Step| Control::Continue, &mut probe)?;
        pending.decode_probed(Decoding::Whole, &mut probe)
    }

    fn generate_latents_probed(
        &mut self,
        request: &GenerateRequest,
        observer: &mut dyn Observer,
        probe: &mut Probe,
    ) -> Result<PendingImages> {
        checked::check(request, &self.card, self.configs.transformer.num_layers)?;
        let started = Instant::now();
        if let Some(words) = self.card.beyond_training(request.width, request.height) {
            observer.note(&words);
        }
        if let Some(note) = self.vocabulary.as_ref().and_then(|known| known.note(&request.prompt)) {
            observer.note(&note);
        }
        let set = lock(&self.adapters).set(&request.loras)?;
        self.denoiser.adapt(&set)?;
        let (text, known_prompts) = self.encode(request, &set, observer)?;
        report_tensor(probe, "context", &text.context)?;
        report_tensor(probe, "pooled", &text.pooled)?;
        observer.encoded();
        let encoded = Instant::now();
        let Denoised { latents, skipped, .. } = self.denoise(request, &set, &text, observer, probe)?;
        let latents = latents.to_device(&Device::Cpu)?;
        let timings = Timings {
            text: (encoded - started).as_secs_f64(),
            denoise: encoded.elapsed().as_secs_f64(),
            known_prompts,
            skipped,
            ..Timings::default()
        };
        Ok(PendingImages {
            decode_stage: self.decode_stage.clone(),
            request: request.clone(),
            latents,
            timings,
        })
    }

    /// Both prompts, one row an image, the negative ones first; and how many were known. `observer` gets what the
    /// encoders do not see.
    fn encode(
        &self,
        request: &GenerateRequest,
        set: &AdapterSet,
        observer: &mut dyn Observer,
    ) -> Result<(TextConditioning, usize)> {
        let Encoded { texts, cuts, known } =
            lock(&self.prompts).encode(&texts(request), request.t5_tokens, set)?;
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
}

impl Prefetcher {
    /// Encodes what [`Pipeline::generate_latents`] would encode first, unless the encoders are at work.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn prefetch(&self, request: &GenerateRequest) -> Result<()> {
        let Ok(mut prompts) = self.prompts.try_lock() else { return Ok(()) };
        let set = lock(&self.adapters).set(&request.loras)?;
        prompts.encode(&texts(request), request.t5_tokens, &set).map(drop)
    }
}

/// What a request has encoded: at guidance 1 or below the prompt alone.
fn texts(request: &GenerateRequest) -> Vec<&str> {
    let both = [request.negative_prompt.as_str(), request.prompt.as_str()];
    if request.is_guided() { both.to_vec() } else { both[1..].to_vec() }
}
