//! The hot loop: noise to latents, one forward of every branch a step.

#[cfg(feature = "cuda")]
mod recorded;

use crate::generate::{Control, Step};
use crate::mmdit::{Mmdit, Prepared};
use crate::schedule::Schedule;
use crate::text::TextConditioning;
use crate::weights::Target;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use std::time::Instant;

/// Hears tensors as they are made: name and value.
pub(crate) type Probe<'a> = Option<&'a mut dyn FnMut(&str, &Tensor) -> Result<()>>;

/// Tells `probe`, if there is one.
pub(crate) fn tell(probe: &mut Probe, name: &str, tensor: &Tensor) -> Result<()> {
    probe.as_mut().map_or(Ok(()), |probe| probe(name, tensor))
}

/// A transformer and what it keeps from one request to the next.
pub(crate) struct Denoiser {
    mmdit: Mmdit,
    target: Target,
    /// Recorded steps, the last used at the end.
    #[cfg(feature = "cuda")]
    recorded: Vec<recorded::Recorded>,
}

/// What to denoise.
pub(crate) struct Job<'a> {
    /// `[N, C, h, w]` f32.
    pub(crate) noise: Tensor,
    /// `2N` rows, the unconditional ones first, or `N` without guidance.
    pub(crate) text: &'a TextConditioning,
    pub(crate) schedule: &'a Schedule,
    /// The classifier-free guidance scale; unused without unconditional rows.
    pub(crate) guidance: f64,
}

impl Job<'_> {
    fn steps(&self) -> usize {
        self.schedule.timesteps.len()
    }

    /// Rows of a forward for each picture: 2 with guidance.
    fn copies(&self) -> Result<usize> {
        Ok(self.text.pooled.dim(0)? / self.noise.dim(0)?)
    }

    fn step(&self, index: usize, seconds: f64) -> Step {
        Step { index: index + 1, of: self.steps(), sigma: f64::from(self.schedule.sigmas[index]), seconds }
    }

    /// Reports that step `index` has ended; stops unless it was the last.
    fn report(&self, index: usize, seconds: f64, on_step: &mut dyn FnMut(Step) -> Control) -> Result<()> {
        let (step, of) = (index + 1, self.steps());
        if on_step(self.step(index, seconds)) == Control::Stop && step < of {
            return Err(Error::Stopped { step: step + 1, of });
        }
        Ok(())
    }
}

impl Denoiser {
    pub(crate) fn new(mmdit: Mmdit, target: &Target) -> Self {
        Self {
            mmdit,
            target: target.clone(),
            #[cfg(feature = "cuda")]
            recorded: Vec::new(),
        }
    }

    /// Latents `[N, C, h, w]` f32. `on_step` hears every step as it ends. With a `probe` no step is recorded, since
    /// it wants to see tensors in between.
    pub(crate) fn run(
        &mut self,
        job: &Job,
        on_step: &mut dyn FnMut(Step) -> Control,
        probe: &mut Probe,
    ) -> Result<Tensor> {
        let TextConditioning { context, pooled } = job.text;
        let prepared = self.mmdit.prepare(context, pooled, &job.schedule.timesteps)?;
        #[cfg(feature = "cuda")]
        if probe.is_none() && self.target.ops.fused && self.target.device.is_cuda() {
            return self.run_recorded(job, &prepared, on_step);
        }
        self.run_eager(job, &prepared, on_step, probe)
    }

    fn run_eager(
        &self,
        job: &Job,
        prepared: &Prepared,
        on_step: &mut dyn FnMut(Step) -> Control,
        probe: &mut Probe,
    ) -> Result<Tensor> {
        let mut latents = job.noise.clone();
        for (index, sigmas) in job.schedule.sigmas.windows(2).enumerate() {
            let started = Instant::now();
            let prediction = self.predict(job, &latents, prepared, index)?;
            tell(probe, &format!("prediction.{index}"), &prediction)?;
            let velocity = guide(&prediction, job)?;
            latents = (latents + (velocity * f64::from(sigmas[1] - sigmas[0]))?)?;
            tell(probe, &format!("latents.{index}"), &latents)?;
            if !latents.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
                return Err(Error::NonFinite { step: index + 1, of: job.steps() });
            }
            job.report(index, started.elapsed().as_secs_f64(), on_step)?;
        }
        Ok(latents)
    }

    /// The velocity of every branch in one batch, f32: `[2N, C, h, w]`, or `[N, C, h, w]` without guidance.
    fn predict(&self, job: &Job, latents: &Tensor, prepared: &Prepared, step: usize) -> Result<Tensor> {
        let latents = latents.to_dtype(self.target.dtype)?;
        let batch = Tensor::cat(&vec![&latents; job.copies()?], 0)?;
        Ok(self.mmdit.forward(&batch, prepared, step)?.to_dtype(DType::F32)?)
    }
}

/// `u + g (c - u)` of the two halves of a guided batch.
fn guide(prediction: &Tensor, job: &Job) -> Result<Tensor> {
    if job.copies()? == 1 {
        return Ok(prediction.clone());
    }
    let count = job.noise.dim(0)?;
    let without = prediction.narrow(0, 0, count)?;
    let with = prediction.narrow(0, count, count)?;
    Ok((&without + ((with - &without)? * job.guidance)?)?)
}
