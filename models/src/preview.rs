//! Live previews: small images of what the first image is becoming while it is generated.
//!
//! A preview is not the noisy latents of the moment but the clean ones that the step predicts. To make decoding cheap
//! they are averaged down, and the model's own decoder leaves out doublings until a latent becomes 8 pixels a side, which
//! is what Stable Diffusion's decoders make of one.

use crate::decode::DecodeStage;
use crate::generate::{GenerateRequest, Observer};
use crate::{Error, Image, Result, image};
use candle_core::{Device, Tensor};
use std::sync::{Mutex, TryLockError};
use std::time::Instant;

/// Longest side in pixels.
const SIDE: usize = 256;

/// Longest side in latents.
const LATENTS: usize = 32;

/// Previews of one request at most.
const MOST: usize = 8;

/// Share of the loop's time that previews may take.
const SHARE: f64 = 0.05;

/// Seconds that they may take all the same, evenly over the loop: small models are fast.
const FREE: f64 = 0.3;

/// The previews of one request.
pub(crate) struct Previews<'a> {
    pub(crate) decode_stage: &'a Mutex<DecodeStage>,
    pub(crate) request: &'a GenerateRequest,
    /// Pixels that a latent becomes, a side.
    pub(crate) factor: usize,
    pub(crate) pace: PreviewPacing,
}

/// Decides when a preview is made.
pub(crate) struct PreviewPacing {
    steps: usize,
    started: Instant,
    spent: f64,
    last: f64,
}

impl PreviewPacing {
    /// The pace of a loop that starts now.
    pub(crate) fn new(steps: usize) -> Self {
        Self { steps, started: Instant::now(), spent: 0.0, last: 0.0 }
    }

    /// Whether a preview of step `index` may be made: of the last step and of every so many before it, while another
    /// one as expensive as the last would not take more than previews may.
    fn allows(&self, index: usize) -> bool {
        let every = self.steps.div_ceil(MOST);
        let free = FREE * (index + 1) as f64 / self.steps as f64;
        let budget = free.max(SHARE * self.started.elapsed().as_secs_f64());
        (self.steps - 1 - index).is_multiple_of(every) && self.spent + self.last <= budget
    }

    fn took(&mut self, seconds: f64) {
        self.spent += seconds;
        self.last = seconds;
    }
}

impl Previews<'_> {
    /// Whether a preview of step `index` is wanted. Costs nothing where none is wanted.
    pub(crate) fn wanted(&self, index: usize, observer: &mut dyn Observer) -> bool {
        self.pace.allows(index) && observer.wants_preview()
    }

    /// Makes the preview of a step that led from the latents `before` to `after`, `[N, C, h, w]` f32, over `sigmas`, and
    /// shows it unless it is unsafe. There is none while another request's images are being finished: they go first.
    pub(crate) fn show(
        &mut self,
        before: &Tensor,
        after: &Tensor,
        sigmas: [f32; 2],
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let started = Instant::now();
        let decode_stage = match self.decode_stage.try_lock() {
            Ok(decode_stage) => decode_stage,
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Poisoned(decode_stage)) => decode_stage.into_inner(),
        };
        let clean = predicted(&before.narrow(0, 0, 1)?, &after.narrow(0, 0, 1)?, sigmas)?;
        let image = match self.image(&decode_stage, &clean) {
            // Of intermediate latents; the result of the loop and of the decoder are checked when they have ended.
            Err(Error::NonFinite { .. }) => return Ok(()),
            // The request can do without a preview.
            Err(Error::OutOfMemory) => return Ok(()),
            made => made?,
        };
        // With a margin, for a small image's verdict is not exactly that of the large one.
        // Each preview is judged by itself: a checker's scores of the first steps' blurred images mean little, and one
        // of them must not hide every later preview.
        let is_clear = match decode_stage.checker(self.request) {
            Some(checker) => match checker.clears(&image) {
                Err(Error::OutOfMemory) => return Ok(()),
                clears => clears?,
            },
            None => true,
        };
        if is_clear {
            observer.preview(image);
        }
        self.pace.took(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn image(&self, decode_stage: &DecodeStage, latents: &Tensor) -> Result<Image> {
        let (_, _, height, width) = latents.dims4()?;
        let times = height.max(width).div_ceil(LATENTS).min(height.min(width));
        let halvings = (self.factor / (SIDE / LATENTS)).checked_ilog2().unwrap_or(0) as usize;
        let latents = averaged(latents, times)?.to_device(&Device::Cpu)?;
        let image = image::from_pixels(&decode_stage.pixels(&latents, halvings)?)?;
        let side = |whole: usize, decoded: usize| ((whole / times) >> halvings).clamp(1, decoded);
        let (width, height) =
            (side(self.request.width, image.width), side(self.request.height, image.height));
        Ok(image.middle(width, height))
    }
}

/// The latents at noise level 0, did the velocity of a step from `before` to `after` last: `after - sigma' v`.
fn predicted(before: &Tensor, after: &Tensor, [sigma, next]: [f32; 2]) -> Result<Tensor> {
    let change = (after - before)?;
    Ok((after + (change * f64::from(next / (sigma - next)))?)?)
}

/// The means of squares of `times` x `times`; what is left over at the edges is cut off.
fn averaged(latents: &Tensor, times: usize) -> Result<Tensor> {
    let (count, channels, height, width) = latents.dims4()?;
    let (rows, columns) = (height / times, width / times);
    let middle = latents
        .narrow(2, height % times / 2, rows * times)?
        .narrow(3, width % times / 2, columns * times)?
        .contiguous()?;
    let squares = middle.reshape((count * channels * rows, times, columns, times))?;
    Ok(squares.mean(3)?.mean(1)?.reshape((count, channels, rows, columns))?)
}

#[cfg(test)]
mod tests;
