//! The hot loop: noise to latents, one forward of every branch a step.
//!
//! Two shortcuts change that where they are asked for: steps without guidance, and steps without most blocks.

#[cfg(feature = "cuda")]
mod captured;
mod eager;

use crate::controlnet::ControlCondition;
use crate::generate::{Control, Observer, SkipLayerGuidance, Step};
use crate::inpaint::KeptRegion;
use crate::ip_adapter::ImageCondition;
#[cfg(feature = "cuda")]
use crate::load_options::Streamed;
use crate::loop_state::LoopState;
use crate::lora::{AdaptedLayers, AdapterSet};
use crate::mmdit::{FirstBlockCache, Mmdit, Prepared};
use crate::planted::{Allocation, Planted};
use crate::preview::Previews;
use crate::probe::{Probe, report_tensor};
use crate::schedule::Schedule;
use crate::shortcuts::{Shortcuts, Skipped};
use crate::target::Target;
use crate::text::TextConditioning;
use crate::{Error, Result};
use candle_core::Tensor;
use eager::EagerSteps;
use std::time::Instant;

/// Sizes whose step stays captured on a GPU: the six presets of the API and two more.
pub(crate) const CAPTURED_SIZES: usize = 8;

/// What observes the loop.
pub(crate) struct LoopHooks<'a> {
    pub(crate) observer: &'a mut dyn Observer,
    /// How previews are made, if they can be.
    pub(crate) previews: Option<Previews<'a>>,
    pub(crate) probe: Probe<'a>,
    pub(crate) planted: Planted,
}

impl LoopHooks<'_> {
    /// Whether a preview of step `index` is to be made.
    fn wants_preview(&mut self, index: usize) -> bool {
        self.previews.as_ref().is_some_and(|previews| previews.wanted(index, self.observer))
    }

    /// Gives the observer the state after step `index`, if it wants it; `latents` gets what the step made.
    fn save_state(
        &mut self,
        input: &DenoiseInput,
        index: usize,
        latents: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        let Some(settings) = &input.state_settings else { return Ok(()) };
        let done = index + 1;
        if done < input.steps() && self.observer.wants_state() {
            self.observer.state(done, LoopState::encode(done, &latents()?, settings)?);
        }
        Ok(())
    }

    /// Makes and shows the preview of a step.
    fn show(&mut self, before: &Tensor, after: &Tensor, sigmas: [f32; 2]) -> Result<()> {
        match &mut self.previews {
            Some(previews) => previews.show(before, after, sigmas, self.observer),
            None => Ok(()),
        }
    }
}

/// A transformer and what it keeps from one request to the next.
pub(crate) struct Denoiser {
    /// What it captured for a GPU.
    #[cfg(feature = "cuda")]
    captured: captured::Captured,
    mmdit: Mmdit,
    adapted: AdaptedLayers,
    target: Target,
}

/// What to denoise.
pub(crate) struct DenoiseInput<'a> {
    /// `[N, C, h, w]` f32: what the first step starts from, which is noise unless steps are done.
    pub(crate) start: Tensor,
    /// What every step puts back.
    pub(crate) kept: Option<KeptRegion>,
    /// Steps that an interrupted attempt has done.
    pub(crate) steps_done: usize,
    /// What the steps depend on besides the request, as the saved state says it. `None`: no state can be saved.
    pub(crate) state_settings: Option<String>,
    /// `2N` rows, the unconditional ones first, or `N` without guidance.
    pub(crate) text: &'a TextConditioning,
    pub(crate) schedule: &'a Schedule,
    /// The classifier-free guidance scale; unused without unconditional rows.
    pub(crate) guidance: f64,
    pub(crate) skip_layers: Option<&'a SkipLayerGuidance>,
    pub(crate) control: Option<&'a ControlCondition<'a>>,
    pub(crate) image: Option<&'a ImageCondition<'a>>,
    pub(crate) shortcuts: Shortcuts,
}

/// What came of it.
pub(crate) struct Denoised {
    /// `[N, C, h, w]` f32.
    pub(crate) latents: Tensor,
    /// Rows that went through every block, of all steps.
    pub(crate) rows: usize,
    pub(crate) skipped: Skipped,
}

impl DenoiseInput<'_> {
    fn steps(&self) -> usize {
        self.schedule.timesteps.len()
    }

    /// Rows of text for each image: 2 with guidance.
    fn branches(&self) -> Result<usize> {
        Ok(self.text.pooled.dim(0)? / self.start.dim(0)?)
    }

    /// Rows of step `index` for each image: 2 where it is guided.
    fn copies(&self, index: usize) -> Result<usize> {
        if self.shortcuts.guides(self.schedule.sigmas[index]) { self.branches() } else { Ok(1) }
    }

    /// Whether a guided input has steps without guidance.
    #[cfg(feature = "cuda")]
    fn leaves_guidance(&self) -> Result<bool> {
        let sigmas = &self.schedule.sigmas[..self.steps()];
        Ok(self.branches()? > 1 && sigmas.iter().any(|sigma| !self.shortcuts.guides(*sigma)))
    }

    /// Whether other networks add to the transformer.
    #[cfg(feature = "cuda")]
    fn has_additions(&self) -> bool {
        self.control.is_some() || self.image.is_some()
    }

    /// What a step is led away from besides the negative prompt, if it is guided.
    fn skip_layers(&self, index: usize) -> Result<Option<&SkipLayerGuidance>> {
        let guided = self.copies(index)? > 1;
        Ok(self.skip_layers.filter(|skip| guided && skip.applies(index, self.steps())))
    }

    /// None with a ControlNet: what it adds behind the first block says nothing of what the others will get.
    fn cache(&self) -> Option<FirstBlockCache> {
        let threshold = self.shortcuts.first_block_cache.filter(|_| self.control.is_none());
        threshold.map(|threshold| FirstBlockCache::new(threshold, self.steps()))
    }

    fn done(&self, latents: Tensor, cache: Option<&FirstBlockCache>) -> Result<Denoised> {
        let copies = (0..self.steps()).map(|index| self.copies(index)).collect::<Result<Vec<_>>>()?;
        let unguided = copies.iter().filter(|copies| **copies == 1).count();
        let rows = copies.iter().sum::<usize>() * self.start.dim(0)?;
        let skipped = Skipped {
            unguided_steps: self.shortcuts.guidance_interval.map(|_| unguided),
            reused_steps: cache.map(FirstBlockCache::reused_steps),
        };
        Ok(Denoised { latents, rows: rows - cache.map_or(0, FirstBlockCache::reused_rows), skipped })
    }

    fn step(&self, index: usize, seconds: f64) -> Step {
        Step { index: index + 1, of: self.steps(), sigma: f64::from(self.schedule.sigmas[index]), seconds }
    }

    /// The latents after step `index` with what a mask keeps; `None` without a mask.
    fn restored(&self, latents: &Tensor, index: usize) -> Result<Option<Tensor>> {
        let sigma = self.schedule.sigmas[index + 1];
        self.kept.as_ref().map(|kept| kept.restore(latents, sigma)).transpose()
    }

    /// Reports that step `index` has ended; stops unless it was the last.
    fn report(&self, index: usize, seconds: f64, observer: &mut dyn Observer) -> Result<()> {
        let (step, of) = (index + 1, self.steps());
        if observer.step(self.step(index, seconds)) == Control::Stop && step < of {
            return Err(Error::Stopped { step: step + 1, of });
        }
        Ok(())
    }
}

impl Denoiser {
    /// `adapted` are the layers of the transformer.
    pub(crate) fn new(mmdit: Mmdit, adapted: AdaptedLayers, target: &Target) -> Self {
        Self {
            #[cfg(feature = "cuda")]
            captured: captured::Captured::default(),
            mmdit,
            adapted,
            target: target.clone(),
        }
    }

    /// Changes what the transformer computes, until the next call.
    pub(crate) fn adapt(&mut self, set: &AdapterSet) -> Result<()> {
        let layout = self.adapted.apply(set)?;
        #[cfg(feature = "cuda")]
        {
            self.captured.adapters = layout;
        }
        let _ = layout;
        Ok(())
    }

    /// Drops what is kept for later requests on the device, adapters too.
    pub(crate) fn forget(&mut self) {
        self.adapted.forget();
        #[cfg(feature = "cuda")]
        {
            self.captured = captured::Captured::default();
        }
    }

    /// Denoises. With a probe no step is captured, since it wants to see tensors in between, nor with a cache, which
    /// decides in every step what the next launches are, nor with a ControlNet or an IP-Adapter, whose layers change from
    /// request to request, nor with weights that are read in every step.
    pub(crate) fn run(&mut self, input: &DenoiseInput, hooks: &mut LoopHooks) -> Result<Denoised> {
        let TextConditioning { context, pooled } = input.text;
        let prepared = self.mmdit.prepare(context, pooled, &input.schedule.timesteps)?;
        let mut cache = input.cache();
        #[cfg(feature = "cuda")]
        if cache.is_none() && !input.has_additions() && hooks.probe.is_none() && self.captures() {
            return input.done(self.run_captured(input, &prepared, hooks)?, None);
        }
        input.done(self.run_eager(input, &prepared, &mut cache, hooks)?, cache.as_ref())
    }

    /// Whether the device, its ops and where the weights are let a step be captured.
    #[cfg(feature = "cuda")]
    fn captures(&self) -> bool {
        let Target { device, ops, streamed, .. } = &self.target;
        ops.fused && device.is_cuda() && *streamed != Streamed::Everything
    }

    fn run_eager(
        &self,
        input: &DenoiseInput,
        prepared: &Prepared,
        cache: &mut Option<FirstBlockCache>,
        hooks: &mut LoopHooks,
    ) -> Result<Tensor> {
        let control = match input.control {
            Some(control) => Some(control.prepare(input.text, &input.schedule.timesteps)?),
            None => None,
        };
        let image = input.image.map(|image| image.prepare(&input.schedule.timesteps)).transpose()?;
        let eager =
            EagerSteps { mmdit: &self.mmdit, dtype: self.target.dtype, input, prepared, control, image };
        let mut latents = input.start.clone();
        for (index, sigmas) in input.schedule.sigmas.windows(2).enumerate().skip(input.steps_done) {
            let started = Instant::now();
            hooks.planted.check(Allocation::Step(index))?;
            let before = latents;
            latents = eager.step(&before, index, cache, &mut hooks.probe)?;
            if let Some(restored) = input.restored(&latents, index)? {
                latents = restored;
            }
            report_tensor(&mut hooks.probe, &format!("latents.{index}"), &latents)?;
            let seconds = started.elapsed().as_secs_f64();
            hooks.save_state(input, index, || Ok(latents.clone()))?;
            input.report(index, seconds, hooks.observer)?;
            if hooks.wants_preview(index) {
                hooks.show(&before, &latents, [sigmas[0], sigmas[1]])?;
            }
        }
        Ok(latents)
    }
}
