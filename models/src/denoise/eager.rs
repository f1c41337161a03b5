//! One step of the loop, launched op by op.

use super::DenoiseInput;
use crate::generate::SkipLayerGuidance;
use crate::mmdit::{FirstBlockCache, Mmdit, Prepared};
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
        let prediction = self.predict(latents, index, cache)?;
        report_tensor(probe, &format!("prediction.{index}"), &prediction)?;
        let mut velocity = self.guide(&prediction)?;
        if let Some(skip) = self.input.skip_layers(index)? {
            velocity = (velocity + self.away(skip, latents, &prediction, index)?)?;
        }
        let sigmas = &self.input.schedule.sigmas[index..];
        let latents = (latents + (velocity * f64::from(sigmas[1] - sigmas[0]))?)?;
        if !latents.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Err(Error::NonFinite { stage: Stage::Step { step: index + 1, of: self.input.steps() } });
        }
        Ok(latents)
    }

    /// The velocity of every branch of a step in one batch, f32: `[2N, C, h, w]`, or `[N, C, h, w]` without guidance.
    fn predict(&self, latents: &Tensor, step: usize, cache: &mut Option<FirstBlockCache>) -> Result<Tensor> {
        let (copies, latents) = (self.input.copies(step)?, latents.to_dtype(self.dtype)?);
        let batch = Tensor::cat(&vec![&latents; copies], 0)?;
        let prediction = if copies < self.input.branches()? {
            let prompted = self.prepared.prompted(self.input.start.dim(0)?)?;
            self.mmdit.forward(&batch, &prompted, step, cache.as_mut())?
        } else {
            self.mmdit.forward(&batch, self.prepared, step, cache.as_mut())?
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

    /// What skip-layer guidance adds to the velocity, `[N, C, h, w]` f32; `prediction` is that of both branches.
    fn away(
        &self,
        skip: &SkipLayerGuidance,
        latents: &Tensor,
        prediction: &Tensor,
        step: usize,
    ) -> Result<Tensor> {
        let count = self.input.start.dim(0)?;
        let (batch, prompted) = (latents.to_dtype(self.dtype)?, self.prepared.prompted(count)?);
        let without = self.mmdit.forward_without(&batch, &prompted, step, &skip.layers)?;
        let with = prediction.narrow(0, count, count)?;
        Ok(((with - without.to_dtype(DType::F32)?)? * skip.scale)?)
    }
}
