//! The loop of a request: what it starts from, what it goes on from after an interruption, and what it is given.

use super::Pipeline;
use crate::controlnet::ControlCondition;
use crate::denoise::{DenoiseInput, Denoised, LoopHooks};
use crate::error::one_line;
use crate::generate::{GenerateRequest, Observer};
use crate::initial_latents::Start;
use crate::ip_adapter::ImageCondition;
use crate::loop_state::LoopState;
use crate::lora::AdapterSet;
use crate::preview::{PreviewPacing, Previews};
use crate::probe::{Probe, report_tensor};
use crate::schedule::Schedule;
use crate::target::Target;
use crate::text::TextConditioning;
use crate::{Error, Result, inpaint};
use candle_core::Tensor;

impl Pipeline {
    /// Noise to latents.
    pub(super) fn denoise(
        &mut self,
        request: &GenerateRequest,
        set: &AdapterSet,
        text: &TextConditioning,
        observer: &mut dyn Observer,
        probe: &mut Probe,
    ) -> Result<Denoised> {
        let canvas = self.card.canvas(request.width, request.height)?;
        let shape = self.initial_latents.shape(request.num_images, canvas);
        let tokens = self.configs.transformer.tokens(shape[2], shape[3]);
        let schedule = Schedule::new(&self.configs.scheduler, request.steps, tokens);
        let schedule = &match &request.init_image {
            Some(init_image) => schedule.last(init_image.strength),
            None => schedule,
        };
        let branches = if request.is_guided() { 2 } else { 1 };
        let control = self.control(request, canvas, branches)?;
        if let Some(control) = &control {
            report_tensor(probe, "condition", &control.latents)?;
        }
        let image = self.image_prompt(request)?;
        if let Some(image) = &image {
            report_tensor(probe, "image_features", &image.features)?;
        }
        let state_settings = self.state_settings(request, schedule, set, (control.as_ref(), image.as_ref()));
        let sample = || self.initial_latents.sample(request, canvas, schedule.sigmas[0]);
        let (start, steps_done) = match saved_state(state_settings.as_deref(), &shape, schedule, observer) {
            Some(LoopState { latents, steps_done }) => {
                let has_mask = request.init_image.as_ref().is_some_and(|image| image.mask.is_some());
                let kept = if has_mask { sample()?.kept } else { None };
                (Start { latents: latents.to_device(&self.target.device)?, kept }, steps_done)
            }
            None => (sample()?, 0),
        };
        let Start { latents: start, kept } = start;
        report_tensor(probe, "sigmas", &Tensor::new(schedule.sigmas.as_slice(), start.device())?)?;
        report_tensor(probe, "start", &start)?;
        let (guidance, shortcuts) = (request.guidance, self.shortcuts);
        let previews = Previews {
            decode_stage: &self.decode_stage,
            request,
            factor: self.configs.vae.factor(),
            pace: PreviewPacing::new(schedule.timesteps.len()),
        };
        let probe = probe.as_mut().map(|probe| &mut **probe as &mut _);
        let planted = self.planted.clone();
        let mut hooks = LoopHooks { observer, previews: Some(previews), probe, planted };
        let input = DenoiseInput {
            start,
            kept,
            steps_done,
            state_settings,
            text,
            schedule,
            guidance,
            skip_layers: request.skip_layers.as_ref(),
            control: control.as_ref(),
            image: image.as_ref(),
            shortcuts,
        };
        self.denoiser.run(&input, &mut hooks)
    }

    /// Loads the ControlNet of a request, unless it is left out by its scale, and encodes its image.
    fn control<'a>(
        &mut self,
        request: &'a GenerateRequest,
        canvas: (usize, usize),
        branches: usize,
    ) -> Result<Option<ControlCondition<'a>>> {
        let Some(net) = request.controlnet.as_ref().filter(|net| net.scale != 0.0) else { return Ok(None) };
        let loaded = self.controlnets.get(net)?;
        let patch = self.configs.transformer.patch_size * self.configs.vae.factor();
        if let Some(max) = loaded.model.max_side()
            && canvas.0.max(canvas.1) > max * patch
        {
            return Err(Error::ControlNet(format!(
                "the ControlNet {}: it has positions for at most {most}x{most} pixels: ask for a smaller image",
                one_line(&net.name, 300),
                most = max * patch
            )));
        }
        let config = loaded.model.config();
        let latents = self.initial_latents.control(request, &net.image, canvas, (branches, config))?;
        Ok(Some(ControlCondition { loaded, latents: latents.to_dtype(self.target.dtype)?, request: net }))
    }

    /// Loads the IP-Adapter of a request, unless it is left out by its scale, and encodes its image prompt.
    fn image_prompt<'a>(&mut self, request: &'a GenerateRequest) -> Result<Option<ImageCondition<'a>>> {
        let Some(asked) = request.ip_adapter.as_ref().filter(|asked| asked.scale > 0.0) else {
            return Ok(None);
        };
        ImageCondition::new(&mut self.ip_adapters, asked, request.is_guided()).map(Some)
    }

    /// What a saved state is good for besides its request; `None` where a step depends on more than the latents.
    fn state_settings(
        &self,
        request: &GenerateRequest,
        schedule: &Schedule,
        set: &AdapterSet,
        (control, image): (Option<&ControlCondition>, Option<&ImageCondition>),
    ) -> Option<String> {
        let Target { device, dtype, ops, .. } = &self.target;
        let device = if device.is_cuda() { "cuda" } else { "cpu" };
        let precision = if ops.fp8 { "fp8" } else { dtype.as_str() };
        let (name, shortcuts) = (&self.card.name, &self.shortcuts);
        let t5 = self.has_t5().then_some(request.t5_tokens);
        let settings = format!(
            "{name} {device} {precision} t5 {t5:?} {shortcuts:?} sigmas {:?}{}{}{}{}",
            schedule.sigmas,
            set.settings(),
            inpaint::digest(request.init_image.as_ref()),
            control.map(ControlCondition::settings).unwrap_or_default(),
            image.map(ImageCondition::settings).unwrap_or_default()
        );
        self.shortcuts.first_block_cache.is_none().then_some(settings)
    }
}

/// The state that an earlier attempt left, where the loop can go on from it; `observer` gets a note of which it is.
fn saved_state(
    settings: Option<&str>,
    shape: &[usize],
    schedule: &Schedule,
    observer: &mut dyn Observer,
) -> Option<LoopState> {
    let bytes = observer.saved_state()?;
    let steps = schedule.timesteps.len();
    let state = settings.and_then(|settings| LoopState::decode(&bytes, shape, steps, settings));
    match &state {
        Some(state) => observer.note(&format!("continuing after step {}/{steps}", state.steps_done)),
        None => observer.note("the saved state is of another model or other settings: starting at step 1"),
    }
    state
}
