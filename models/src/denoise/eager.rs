//! One step of the loop, launched op by op.

use super::DenoiseInput;
use crate::controlnet::ControlSteps;
use crate::generate::SkipLayerGuidance;
use crate::mmdit::{FirstBlockCache, Mmdit, Prepared, Residuals};
use crate::probe::{Probe, report_tensor};
use crate::{Error, Result, Stage};
use candle_core::{DType, Tensor};

/// What the steps of a loop need.
pub(super) struct EagerSteps<'a> {
    pub(super) mmdit: &'a Mmdit,
    /// What the transformer computes in.
    pub(super) dtype: DType,
    pub(super) input: &'a DenoiseInput<'a>,
    pub(super) prepared: &'a Prepared,
    pub(super) control: Option<ControlSteps<'a>>,
}

impl EagerSteps<'_> {
    /// The latents `[N, C, h, w]` f32 after step `index`.
    pub(super) fn step(
        &self,
        latents: &Tensor,
        index: usize,
        cache: &mut Option<FirstBlockCache>,
        probe: &mut Probe,
    ) -> Result<Tensor> {
        let residuals = self.residuals(latents, index, probe)?;
        let prediction = self.predict(latents, index, cache, residuals.as_ref())?;
        report_tensor(probe, &format!("prediction.{index}"), &prediction)?;
        let mut velocity = self.guide(&prediction)?;
        if let Some(skip) = self.input.skip_layers(index)? {
            let away = self.away(skip, latents, (&prediction, residuals.as_ref()), index)?;
            velocity = (velocity + away)?;
        }
        let sigmas = &self.input.schedule.sigmas[index..];
        let latents = (latents + (velocity * f64::from(sigmas[1] - sigmas[0]))?)?;
        if !latents.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Err(Error::NonFinite { stage: Stage::Step { step: index + 1, of: self.input.steps() } });
        }
        Ok(latents)
    }

    /// Latents `[N, C, h, w]` for every branch of a step in one batch, in the transformer's precision.
    fn batch(&self, latents: &Tensor, step: usize) -> Result<Tensor> {
        let (copies, latents) = (self.input.copies(step)?, latents.to_dtype(self.dtype)?);
        Ok(Tensor::cat(&vec![&latents; copies], 0)?)
    }

    /// What a ControlNet adds in a step.
    fn residuals(&self, latents: &Tensor, step: usize, probe: &mut Probe) -> Result<Option<Residuals>> {
        let Some(control) = &self.control else { return Ok(None) };
        let (batch, count) = (self.batch(latents, step)?, self.input.start.dim(0)?);
        let residuals = control.residuals(self.mmdit, &batch, count, (step, self.input.steps()))?;
        for (index, residual) in residuals.iter().flat_map(Residuals::iter).enumerate() {
            report_tensor(probe, &format!("residual.{step}.{index}"), residual)?;
        }
        Ok(residuals)
    }

    /// The velocity of every branch of a step in one batch, f32: `[2N, C, h, w]`, or `[N, C, h, w]` without guidance.
    fn predict(
        &self,
        latents: &Tensor,
        step: usize,
        cache: &mut Option<FirstBlockCache>,
        residuals: Option<&Residuals>,
    ) -> Result<Tensor> {
        let (batch, cache) = (self.batch(latents, step)?, cache.as_mut());
        let prediction = if self.input.copies(step)? < self.input.branches()? {
            let prompted = self.prepared.prompted(self.input.start.dim(0)?)?;
            self.mmdit.forward(&batch, &prompted, step, cache, residuals)?
        } else {
            self.mmdit.forward(&batch, self.prepared, step, cache, residuals)?
        };
        Ok(prediction.to_dtype(DType::F32)?)
    }

    /// `u + g (c - u)` of the two halves of a guided batch.
    fn guide(&self, prediction: &Tensor) -> Result<Tensor> {
        let count = self.input.start.dim(0)?;
        if prediction.dim(0)? == count {
            return Ok(prediction.clone());
        }
        let without = prediction.narrow(0, 0, count)?;
        let with = prediction.narrow(0, count, count)?;
        Ok((&without + ((with - &without)? * self.input.guidance)?)?)
    }

    /// What skip-layer guidance adds to the velocity, `[N, C, h, w]` f32; prediction and residuals are those of both
    /// branches.
    fn away(
        &self,
        skip: &SkipLayerGuidance,
        latents: &Tensor,
        (prediction, residuals): (&Tensor, Option<&Residuals>),
        step: usize,
    ) -> Result<Tensor> {
        let count = self.input.start.dim(0)?;
        let (batch, prompted) = (latents.to_dtype(self.dtype)?, self.prepared.prompted(count)?);
        let residuals = residuals.map(|residuals| residuals.prompted(count)).transpose()?;
        let residuals = residuals.as_ref();
        let without = self.mmdit.forward_without(&batch, &prompted, step, &skip.layers, residuals)?;
        let with = prediction.narrow(0, count, count)?;
        Ok(((with - without.to_dtype(DType::F32)?)? * skip.scale)?)
    }
}
