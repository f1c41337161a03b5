//! IP-Adapters: untrusted files of further attentions in the transformer, by which the images get content and style of an
//! image prompt.
//!
//! [`IpAdapterStore`] reads one with its image encoder and keeps the last; [`ImageCondition`] is what a request makes of them.
//! The network is in `mmdit/ip_adapter.rs`.

mod encoder;
mod encoder_config;
mod store;

pub(crate) use store::IpAdapterStore;
pub use store::check_ip_adapter;

use crate::generate::IpAdapter;
use crate::mmdit::{ImageTokens, PreparedPrompt};
use crate::{Result, Stage, finite, image};
use candle_core::Tensor;
use std::sync::Arc;
use store::{LoadedAdapter, LoadedEncoder};

/// The IP-Adapter of a request with its image prompt.
pub(crate) struct ImageCondition<'a> {
    adapter: Arc<LoadedAdapter>,
    encoder: Arc<LoadedEncoder>,
    /// `[b, T, E]`: one row a branch; zeros of the unconditional one, which is the first
    /// (pipeline_stable_diffusion_3.py:747-761).
    pub(crate) features: Tensor,
    request: &'a IpAdapter,
}

/// An [`ImageCondition`] with what is known of all steps beforehand.
pub(crate) struct ImageSteps<'a> {
    condition: &'a ImageCondition<'a>,
    prepared: PreparedPrompt,
}

impl<'a> ImageCondition<'a> {
    /// Loads the files of a request, unless they are kept, and encodes its image prompt.
    ///
    /// # Errors
    /// One cannot be used, or the encoder computed numbers that are not finite.
    pub(crate) fn new(store: &mut IpAdapterStore, request: &'a IpAdapter, is_guided: bool) -> Result<Self> {
        let (adapter, encoder) = store.get(request)?;
        let features = encoder.network.features(&request.image)?;
        finite::check(&features, Stage::ImageEncoder)?;
        let features =
            if is_guided { Tensor::cat(&[&features.zeros_like()?, &features], 0)? } else { features };
        Ok(Self { adapter, encoder, features, request })
    }

    pub(crate) fn prepare(&'a self, timesteps: &[f32]) -> Result<ImageSteps<'a>> {
        Ok(ImageSteps { condition: self, prepared: self.adapter.model.prepare(&self.features, timesteps)? })
    }

    /// What steps depend on besides the request, for a saved state: files at a URL may change between two attempts.
    pub(crate) fn settings(&self) -> String {
        let IpAdapter { image, scale, .. } = self.request;
        let (adapter, encoder) = (&self.adapter.digest, &self.encoder.digest);
        format!(" ip_adapter {adapter} * {scale:?} encoder {encoder} image {}", image::digest([image]))
    }
}

impl ImageSteps<'_> {
    /// The image prompt in a step: of all branches, or of the prompt's alone.
    pub(crate) fn tokens(&self, step: usize, is_prompt_alone: bool) -> Result<ImageTokens<'_>> {
        let ImageCondition { adapter, request, .. } = self.condition;
        let tokens = |prepared: &PreparedPrompt| adapter.model.tokens(prepared, step, request.scale);
        let tokens =
            if is_prompt_alone { tokens(&self.prepared.prompted()?) } else { tokens(&self.prepared) };
        Ok(tokens?)
    }
}
