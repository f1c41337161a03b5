//! First-block cache: where the first block does much the same as in the last whole step, so would the others, and what
//! they added then is added again.
//!
//! The rule is diffusers' (0.42.1, `hooks/first_block_cache.py`, lines 91 to 142 and 171 to 180, after ParaAttention),
//! but for two things. The last step is always computed. And of the text nothing is kept: a model's last block has no
//! text output, on which line 176 there fails.

use super::Mmdit;
use super::ip_adapter::ImageTokens;
use super::stream::Stream;
use candle_core::{D, DType, Result, Tensor, bail};

/// What one loop remembers from step to step.
pub(crate) struct FirstBlockCache {
    threshold: f64,
    /// Steps still to come.
    left: usize,
    reused_steps: usize,
    reused_rows: usize,
    last: Option<Computed>,
}

/// A step that ran every block: what the first one and what all others added to the image, `[B, L, D]`.
struct Computed {
    first: Tensor,
    others: Tensor,
}

impl FirstBlockCache {
    /// For a loop of `steps`.
    pub(crate) fn new(threshold: f64, steps: usize) -> Self {
        Self { threshold, left: steps, reused_steps: 0, reused_rows: 0, last: None }
    }

    /// Steps that ran the first block alone.
    pub(crate) fn reused_steps(&self) -> usize {
        self.reused_steps
    }

    /// The rows of these steps.
    pub(crate) fn reused_rows(&self) -> usize {
        self.reused_rows
    }

    /// What the other blocks would add in this step, in which the first one added `first`; `None`: compute it.
    fn others(&mut self, first: &Tensor) -> Result<Option<Tensor>> {
        self.left = self.left.saturating_sub(1);
        let Some(last) = &self.last else { return Ok(None) };
        // A step of other branches says nothing of this one.
        if self.left == 0 || last.first.dims() != first.dims() || !last.is_near(first, self.threshold)? {
            return Ok(None);
        }
        self.reused_steps += 1;
        self.reused_rows += first.dim(0)?;
        Ok(Some(last.others.clone()))
    }
}

impl Computed {
    /// Whether `|first - self.first|` is at most `threshold` times `|self.first|`, both on average.
    fn is_near(&self, first: &Tensor, threshold: f64) -> Result<bool> {
        let distance = (mean_size(&(first - &self.first)?)? / mean_size(&self.first)?)?;
        Ok(f64::from(distance.to_scalar::<f32>()?) <= threshold)
    }
}

/// The mean of `|x|` over all of `[B, L, D]`, in f32; row by row first, which a GPU does in parallel.
fn mean_size(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.abs()?.mean(D::Minus1)?.mean_all()
}

impl Mmdit {
    /// [`Self::forward_tokens`] with the blocks after the first only where `cache` has nothing near.
    pub(super) fn forward_tokens_cached(
        &self,
        (patches, positions, context): (&Tensor, &Tensor, &Tensor),
        modulations: &Tensor,
        prompt: Option<&ImageTokens>,
        cache: &mut FirstBlockCache,
    ) -> Result<Tensor> {
        let Some((first, others)) = self.blocks.split_first() else { bail!("a model without blocks") };
        let before = self.patches.project(patches, positions)?;
        let text = Stream::new(context.clone());
        let prompt = |index| prompt.map(|prompt| prompt.of_block(index));
        let (mut image, mut text) =
            first.forward(Stream::new(before.clone()), Some(text), modulations, prompt(0))?;
        let after = image.sum(self.ops, modulations)?;
        let added = (&after - before)?;
        if let Some(others) = cache.others(&added)? {
            return self.output(Stream::new((after + others)?), modulations);
        }
        for (index, block) in (1..).zip(others) {
            (image, text) = block.forward(image, text, modulations, prompt(index))?;
        }
        let others = (image.sum(self.ops, modulations)? - after)?;
        cache.last = Some(Computed { first: added, others });
        self.output(image, modulations)
    }
}
