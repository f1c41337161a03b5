//! The last stage: latents to pixels, and the safety checker's look at them.
//!
//! It works on a stream of its own, so that it can finish one request on one thread while the next is denoised on
//! another. What it gets comes through host memory.

use crate::generate::{GenerateRequest, Generated, Timings};
use crate::probe::{Probe, tell};
use crate::safety::SafetyChecker;
use crate::target::Target;
use crate::vae::Decoder;
use crate::{Picture, Result, picture};
use candle_core::Tensor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What makes pictures of latents.
pub(crate) struct Finisher {
    pub(crate) decoder: Decoder,
    pub(crate) safety: Option<SafetyChecker>,
    pub(crate) target: Target,
}

/// A request whose pictures are latents yet. Any thread may finish it, while the pipeline paints the next.
pub struct Painted {
    pub(crate) finisher: Arc<Mutex<Finisher>>,
    pub(crate) request: GenerateRequest,
    /// `[N, C, h, w]` f32, on the host.
    pub(crate) latents: Tensor,
    /// Of the stages so far.
    pub(crate) timings: Timings,
}

/// Takes a stage for oneself. One that panicked half-way holds nothing that the next use relies on.
pub(crate) fn take<T>(stage: &Mutex<T>) -> MutexGuard<'_, T> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Painted {
    /// Decodes the pictures and has them looked at.
    ///
    /// # Errors
    /// A device's fault.
    pub fn finish(self) -> Result<Generated> {
        self.finish_before(&mut None)
    }

    pub(crate) fn finish_before(self, probe: &mut Probe) -> Result<Generated> {
        let Self { finisher, request, latents, timings } = self;
        let finisher = take(&finisher);
        let started = Instant::now();
        let mut pictures = finisher.decode(&request, &latents, probe)?;
        let decoded = Instant::now();
        let checker = finisher.checker(&request);
        let verdicts = checker.map_or(Ok(Vec::new()), |checker| checker.judge(&mut pictures))?;
        let timings = Timings {
            decode: (decoded - started).as_secs_f64(),
            safety: decoded.elapsed().as_secs_f64(),
            ..timings
        };
        Ok(Generated { pictures, verdicts, timings })
    }
}

impl Finisher {
    /// One picture at a time, so that memory does not grow with their number.
    fn decode(&self, request: &GenerateRequest, latents: &Tensor, probe: &mut Probe) -> Result<Vec<Picture>> {
        let pictures = (0..latents.dim(0)?).map(|index| {
            let pixels = self.pixels(&latents.narrow(0, index, 1)?, 0)?;
            tell(probe, &format!("decoded.{index}"), &pixels)?;
            Ok(picture::from_pixels(&pixels)?.middle(request.width, request.height))
        });
        pictures.collect()
    }

    /// Pixels of latents from the host, `[1, 3, H, W]`, or by so many halvings smaller.
    pub(crate) fn pixels(&self, latents: &Tensor, halvings: usize) -> Result<Tensor> {
        let latents = latents.to_device(&self.target.device)?.to_dtype(self.target.dtype)?;
        Ok(self.decoder.decode(&latents, halvings)?)
    }

    /// What looks at this request's pictures, if the request or the operator wants it to.
    pub(crate) fn checker(&self, request: &GenerateRequest) -> Option<&SafetyChecker> {
        self.safety.as_ref().filter(|checker| request.check_safety || checker.forced)
    }
}
