//! ControlNets: untrusted files of blocks whose outputs are added to the transformer's image stream, so that the images
//! have the edges, depths or the like of a control image.
//!
//! [`ControlNetStore`] reads one and keeps the last; [`ControlCondition`] is what a request makes of it. The network is in
//! `mmdit/controlnet.rs`.

mod store;

pub use store::check_controlnet;
pub(crate) use store::{ControlNetStore, Loaded};

use crate::generate::ControlNet;
use crate::mmdit::{Mmdit, PreparedControl, Residuals};
use crate::text::TextConditioning;
use crate::{Result, image};
use candle_core::Tensor;
use std::sync::Arc;

/// The ControlNet of a request with its control image.
pub(crate) struct ControlCondition<'a> {
    pub(crate) loaded: Arc<Loaded>,
    /// `[B, C, h, w]`: a sample of the control image's latents for each row of text.
    pub(crate) latents: Tensor,
    pub(crate) request: &'a ControlNet,
}

/// A [`ControlCondition`] with what is known of all steps beforehand.
pub(crate) struct ControlSteps<'a> {
    condition: &'a ControlCondition<'a>,
    prepared: PreparedControl,
}

impl<'a> ControlCondition<'a> {
    pub(crate) fn prepare(&'a self, text: &TextConditioning, timesteps: &[f32]) -> Result<ControlSteps<'a>> {
        let model = &self.loaded.model;
        let prepared = model.prepare((&text.context, &text.pooled), &self.latents, timesteps)?;
        Ok(ControlSteps { condition: self, prepared })
    }

    /// What steps depend on besides the request, for a saved state: files at a URL may change between two attempts.
    pub(crate) fn settings(&self) -> String {
        let ControlNet { image, scale, start, end, .. } = self.request;
        let (net, image) = (&self.loaded.digest, image::digest([image]));
        format!(" controlnet {net} * {scale:?} {start:?} to {end:?} image {image}")
    }
}

impl ControlSteps<'_> {
    /// What is added in step `step` of `steps` to `latents [B, C, h, w]` in the transformer's precision, the rows of both
    /// branches or, of `count` images, of the prompt alone; `None` in a step without the ControlNet.
    pub(crate) fn residuals(
        &self,
        mmdit: &Mmdit,
        latents: &Tensor,
        count: usize,
        (step, steps): (usize, usize),
    ) -> Result<Option<Residuals>> {
        let ControlCondition { loaded, latents: condition, request } = self.condition;
        if !request.applies(step, steps) {
            return Ok(None);
        }
        let forward = |prepared| loaded.model.forward(mmdit, latents, prepared, step, request.scale);
        let is_prompt_alone = latents.dim(0)? < condition.dim(0)?;
        let residuals =
            if is_prompt_alone { forward(&self.prepared.prompted(count)?) } else { forward(&self.prepared) };
        Ok(Some(residuals?))
    }
}
