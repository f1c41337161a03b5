//! Live previews: what the first picture is going to become, made small while it is painted.
//!
//! A preview is not the noisy latents of the moment but the clean ones that the step predicts. To make decoding cheap
//! they are averaged down, and the model's own decoder leaves out doublings until a latent becomes 8 pixels a side, which
//! is what Stable Diffusion's decoders make of one.

use crate::finish::Finisher;
use crate::generate::{GenerateRequest, Observer};
use crate::{Error, Picture, Result, picture};
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
    pub(crate) finisher: &'a Mutex<Finisher>,
    pub(crate) request: &'a GenerateRequest,
    /// Pixels that a latent becomes, a side.
    pub(crate) factor: usize,
    pub(crate) pace: Pace,
    /// One was unsafe: the picture is becoming so, and nothing more of it is shown.
    pub(crate) withheld: bool,
}

/// Decides when a preview is made.
pub(crate) struct Pace {
    steps: usize,
    started: Instant,
    spent: f64,
    last: f64,
}

impl Pace {
    /// The pace of a loop that starts now.
    pub(crate) fn new(steps: usize) -> Self {
        Self { steps, started: Instant::now(), spent: 0.0, last: 0.0 }
    }

    /// Whether a preview of step `index` may be made: of the last step and of every so many before it, while another
    /// one as dear as the last would not take more than previews may.
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
    /// Whether a preview of step `index` is wanted. Costs nothing where nobody watches.
    pub(crate) fn wanted(&self, index: usize, observer: &mut dyn Observer) -> bool {
        !self.withheld && self.pace.allows(index) && observer.wants_preview()
    }

    /// Makes the preview of a step that led from the latents `before` to `after`, `[N, C, h, w]` f32, over `sigmas`, and
    /// shows it unless it is unsafe. There is none while another request's pictures are being finished: they go first.
    pub(crate) fn show(
        &mut self,
        before: &Tensor,
        after: &Tensor,
        sigmas: [f32; 2],
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let started = Instant::now();
        let finisher = match self.finisher.try_lock() {
            Ok(finisher) => finisher,
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Poisoned(finisher)) => finisher.into_inner(),
        };
        let clean = predicted(&before.narrow(0, 0, 1)?, &after.narrow(0, 0, 1)?, sigmas)?;
        let picture = match self.picture(&finisher, &clean) {
            // Of latents on the way; the step and the decoder are looked at when they have ended.
            Err(Error::NonFinite { .. }) => return Ok(()),
            made => made?,
        };
        // With a margin, for a small picture's verdict is not exactly that of the large one.
        self.withheld = match finisher.checker(self.request) {
            Some(checker) => !checker.clears(&picture)?,
            None => false,
        };
        if !self.withheld {
            observer.preview(picture);
        }
        self.pace.took(started.elapsed().as_secs_f64());
        Ok(())
    }

    fn picture(&self, finisher: &Finisher, latents: &Tensor) -> Result<Picture> {
        let (_, _, height, width) = latents.dims4()?;
        let times = height.max(width).div_ceil(LATENTS).min(height.min(width));
        let halvings = (self.factor / (SIDE / LATENTS)).checked_ilog2().unwrap_or(0) as usize;
        let latents = averaged(latents, times)?.to_device(&Device::Cpu)?;
        let picture = picture::from_pixels(&finisher.pixels(&latents, halvings)?)?;
        let side = |whole: usize, decoded: usize| ((whole / times) >> halvings).clamp(1, decoded);
        let (width, height) =
            (side(self.request.width, picture.width), side(self.request.height, picture.height));
        Ok(picture.middle(width, height))
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
