//! The last stage: latents to pixels, and the safety checker.
//!
//! It works on a stream of its own, so that it can finish one request on one thread while the next is denoised on
//! another. What it gets comes through host memory, and stays there until the images are done, so that a device whose
//! memory runs out while it decodes can decode once more, in tiles.

use crate::generate::{GenerateRequest, Generated, Timings};
use crate::planted::{Allocation, Planted};
use crate::probe::{Probe, report_tensor};
use crate::safety::SafetyChecker;
use crate::target::Target;
use crate::vae::{Decoder, Tiles};
use crate::{Image, Result, image};
use candle_core::Tensor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What makes images of latents.
pub(crate) struct DecodeStage {
    pub(crate) decoder: Decoder,
    pub(crate) safety: Option<SafetyChecker>,
    pub(crate) target: Target,
    pub(crate) planted: Planted,
}

/// How latents become pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoding {
    /// All of an image at once.
    Whole,
    /// In overlapping tiles, which need less memory, and make about the same image.
    Tiled,
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
    /// Decodes the images and has the safety checker check them. The latents stay, so that it can be called again.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory), or a device's fault.
    pub fn decode(&self, decoding: Decoding) -> Result<Generated> {
        self.decode_probed(decoding, &mut None)
    }

    pub(crate) fn decode_probed(&self, decoding: Decoding, probe: &mut Probe) -> Result<Generated> {
        let Self { decode_stage, request, latents, timings } = self;
        let decode_stage = lock(decode_stage);
        let started = Instant::now();
        let mut images = decode_stage.decode(request, latents, decoding, probe)?;
        let decoded = Instant::now();
        let checker = decode_stage.checker(request);
        let verdicts = checker.map_or(Ok(Vec::new()), |checker| checker.check(&mut images))?;
        let timings = Timings {
            decode: (decoded - started).as_secs_f64(),
            safety: decoded.elapsed().as_secs_f64(),
            ..*timings
        };
        Ok(Generated { images, verdicts, timings })
    }
}

impl DecodeStage {
    /// One image at a time, so that memory does not grow with their number.
    fn decode(
        &self,
        request: &GenerateRequest,
        latents: &Tensor,
        decoding: Decoding,
        probe: &mut Probe,
    ) -> Result<Vec<Image>> {
        let images = (0..latents.dim(0)?).map(|index| {
            let pixels = self.image_pixels(&latents.narrow(0, index, 1)?, decoding)?;
            report_tensor(probe, &format!("decoded.{index}"), &pixels)?;
            Ok(image::from_pixels(&pixels)?.middle(request.width, request.height))
        });
        images.collect()
    }

    /// Pixels of an image's latents from the host, `[1, 3, H, W]`: on the device, or on the host if they come from tiles.
    pub(crate) fn image_pixels(&self, latents: &Tensor, decoding: Decoding) -> Result<Tensor> {
        match decoding {
            Decoding::Whole => {
                self.planted.check(Allocation::Decode)?;
                self.pixels(latents, 0)
            }
            Decoding::Tiled => {
                let (_, _, height, width) = latents.dims4()?;
                Tiles::of(height, width, self.decoder.factor()).decode(latents, |tile| {
                    self.planted.check(Allocation::Tile)?;
                    self.pixels(tile, 0)
                })
            }
        }
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
