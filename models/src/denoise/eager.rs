//! One step of the loop, launched op by op.

use super::DenoiseInput;
use crate::controlnet::ControlSteps;
use crate::generate::SkipLayerGuidance;
use crate::ip_adapter::ImageSteps;
use crate::mmdit::{Additions, FirstBlockCache, ImageTokens, Mmdit, Prepared, Residuals};
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
    pub(super) image: Option<ImageSteps<'a>>,
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
        let image = self.image_tokens(index, probe)?;
        let additions = Additions { residuals: residuals.as_ref(), image: image.as_ref() };
        let prediction = self.predict(latents, index, cache, additions)?;
        report_tensor(probe, &format!("prediction.{index}"), &prediction)?;
        let mut velocity = self.guide(&prediction)?;
        if let Some(skip) = self.input.skip_layers(index)? {
            let away = self.away(skip, latents, (&prediction, additions), index)?;
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

    /// The image prompt of an IP-Adapter in a step.
    fn image_tokens(&self, step: usize, probe: &mut Probe) -> Result<Option<ImageTokens<'_>>> {
        let Some(image) = &self.image else { return Ok(None) };
        let is_prompt_alone = self.input.copies(step)? < self.input.branches()?;
        let tokens = image.tokens(step, is_prompt_alone)?;
        report_tensor(probe, &format!("image_tokens.{step}"), tokens.values())?;
        Ok(Some(tokens))
    }

    /// The velocity of every branch of a step in one batch, f32: `[2N, C, h, w]`, or `[N, C, h, w]` without guidance.
    fn predict(
        &self,
        latents: &Tensor,
        step: usize,
        cache: &mut Option<FirstBlockCache>,
        additions: Additions,
    ) -> Result<Tensor> {
        let (batch, cache) = (self.batch(latents, step)?, cache.as_mut());
        let prediction = if self.input.copies(step)? < self.input.branches()? {
            let prompted = self.prepared.prompted(self.input.start.dim(0)?)?;
            self.mmdit.forward(&batch, &prompted, step, cache, additions)?
        } else {
            self.mmdit.forward(&batch, self.prepared, step, cache, additions)?
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

    /// What skip-layer guidance adds to the velocity, `[N, C, h, w]` f32; prediction and additions are those of both
    /// branches. diffusers passes the image prompt of both here too, so that the prompt's branch sees that of the other.
    fn away(
        &self,
        skip: &SkipLayerGuidance,
        latents: &Tensor,
        (prediction, additions): (&Tensor, Additions),
        step: usize,
    ) -> Result<Tensor> {
        let count = self.input.start.dim(0)?;
        let (batch, prompted) = (latents.to_dtype(self.dtype)?, self.prepared.prompted(count)?);
        let residuals = additions.residuals.map(|residuals| residuals.prompted(count)).transpose()?;
        let image = additions.image.map(ImageTokens::prompted).transpose()?;
        let additions = Additions { residuals: residuals.as_ref(), image: image.as_ref() };
        let without = self.mmdit.forward_without(&batch, &prompted, step, &skip.layers, additions)?;
        let with = prediction.narrow(0, count, count)?;
        Ok(((with - without.to_dtype(DType::F32)?)? * skip.scale)?)
    }
}
