//! The last stage: latents to pixels, and the safety checker.
//!
//! It works on a stream of its own, so that it can finish one request on one thread while the next is denoised on
//! another. What it gets comes through host memory.

use crate::generate::{GenerateRequest, Generated, Timings};
use crate::probe::{Probe, report_tensor};
use crate::safety::SafetyChecker;
use crate::target::Target;
use crate::vae::Decoder;
use crate::{Image, Result, image};
use candle_core::Tensor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What makes images of latents.
pub(crate) struct DecodeStage {
    pub(crate) decoder: Decoder,
    pub(crate) safety: Option<SafetyChecker>,
    pub(crate) target: Target,
}

/// A request whose images are latents yet. Any thread may finish it, while the pipeline generates the next.
pub struct PendingImages {
    pub(crate) decode_stage: Arc<Mutex<DecodeStage>>,
    pub(crate) request: GenerateRequest,
    /// `[N, C, h, w]` f32, on the host.
    pub(crate) latents: Tensor,
    /// Of the stages so far.
    pub(crate) timings: Timings,
}

/// Locks a stage. One that panicked half-way holds nothing that the next use relies on.
pub(crate) fn lock<T>(stage: &Mutex<T>) -> MutexGuard<'_, T> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PendingImages {
    /// Decodes the images and has the safety checker check them.
    ///
    /// # Errors
    /// A device's fault.
    pub fn decode(self) -> Result<Generated> {
        self.decode_probed(&mut None)
    }

    pub(crate) fn decode_probed(self, probe: &mut Probe) -> Result<Generated> {
        let Self { decode_stage, request, latents, timings } = self;
        let decode_stage = lock(&decode_stage);
        let started = Instant::now();
        let mut images = decode_stage.decode(&request, &latents, probe)?;
        let decoded = Instant::now();
        let checker = decode_stage.checker(&request);
        let verdicts = checker.map_or(Ok(Vec::new()), |checker| checker.check(&mut images))?;
        let timings = Timings {
            decode: (decoded - started).as_secs_f64(),
            safety: decoded.elapsed().as_secs_f64(),
            ..timings
        };
        Ok(Generated { images, verdicts, timings })
    }
}

impl DecodeStage {
    /// One image at a time, so that memory does not grow with their number.
    fn decode(&self, request: &GenerateRequest, latents: &Tensor, probe: &mut Probe) -> Result<Vec<Image>> {
        let images = (0..latents.dim(0)?).map(|index| {
            let pixels = self.pixels(&latents.narrow(0, index, 1)?, 0)?;
            report_tensor(probe, &format!("decoded.{index}"), &pixels)?;
            Ok(image::from_pixels(&pixels)?.middle(request.width, request.height))
        });
        images.collect()
    }

    /// Pixels of latents from the host, `[1, 3, H, W]`, or by so many halvings smaller.
    pub(crate) fn pixels(&self, latents: &Tensor, halvings: usize) -> Result<Tensor> {
        let latents = latents.to_device(&self.target.device)?.to_dtype(self.target.dtype)?;
        Ok(self.decoder.decode(&latents, halvings)?)
    }

    /// The safety checker for this request's images, if the request or the operator wants one.
    pub(crate) fn checker(&self, request: &GenerateRequest) -> Option<&SafetyChecker> {
        self.safety.as_ref().filter(|checker| request.check_safety || checker.forced)
    }
}
