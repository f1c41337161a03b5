//! What a model needs in memory, known before a tensor of it is read: from its config files and its files' headers.

mod weights;

use crate::config::Configs;
use crate::weights::{Stored, Target, Weights};
use crate::{LoadOptions, ModelSource, Result};
use weights::{Kept, elements};

/// What is going to be painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Pictures of a request.
    pub images: usize,
    /// Prompt tokens that T5 reads.
    pub t5_tokens: usize,
    /// Whether there is a negative branch beside the prompt's.
    pub guided: bool,
    /// Denoising steps.
    pub steps: usize,
    /// Whether requests may begin from a picture.
    pub begins: bool,
}

impl Default for Work {
    /// One guided picture of 1024x1024 in 28 steps, which may begin from another.
    fn default() -> Self {
        Self { width: 1024, height: 1024, images: 1, t5_tokens: 256, guided: true, steps: 28, begins: true }
    }
}

/// One part of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its folder: `transformer`, `text_encoder_3`.
    pub name: &'static str,
    /// Values of all its tensors.
    pub parameters: u64,
    /// Bytes of them, loaded.
    pub bytes: u64,
}

/// What a model needs on its device, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are loaded.
    pub parts: Vec<Part>,
    /// The most that is held beside the weights while they are loaded.
    pub loading: u64,
}

/// Folders of weights, the stem of their files, and whether a model may lack it.
const PARTS: [(&str, &str); 5] = [
    ("text_encoder", "model"),
    ("text_encoder_2", "model"),
    (T5, "model"),
    ("transformer", "diffusion_pytorch_model"),
    ("vae", "diffusion_pytorch_model"),
];

const T5: &str = "text_encoder_3";

impl Plan {
    /// Plans a model as `options` would load it.
    ///
    /// # Errors
    /// A config file or a header cannot be read.
    pub fn of(source: &ModelSource, options: &LoadOptions, work: &Work) -> Result<Self> {
        let files = source.files()?;
        let configs = Configs::read(&files)?;
        let kept = Kept::new(options.dtype, options.device);
        let _ = work;
        let mut plan = Self { parts: Vec::new(), loading: 0 };
        for (name, stem) in PARTS {
            if name != T5 || configs.index.has_t5() {
                let weights = Weights::open(&files, name, stem, &Target::host())?;
                plan.add(name, &needed(weights.stored()), kept);
            }
        }
        Ok(plan)
    }

    fn add(&mut self, name: &'static str, tensors: &[Stored], kept: Kept) {
        let parameters = tensors.iter().map(elements).sum();
        let bytes = tensors.iter().map(|tensor| kept.bytes(tensor)).sum();
        self.parts.push(Part { name, parameters, bytes });
        let loading = tensors.iter().map(|tensor| kept.loading(tensor)).max();
        self.loading = self.loading.max(loading.unwrap_or_default());
    }

    /// Bytes of all weights.
    pub fn weights(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Whether so many bytes are enough.
    pub fn fits(&self, available: u64) -> bool {
        self.weights() + self.loading <= available
    }
}

/// Leaves out what loading leaves out: positions that are counted, not learned, and the second name of T5's table.
fn needed(mut tensors: Vec<Stored>) -> Vec<Stored> {
    let has_shared = tensors.iter().any(|tensor| tensor.name == "shared.weight");
    tensors.retain(|tensor| {
        let is_twice = has_shared && tensor.name == "encoder.embed_tokens.weight";
        !is_twice && !tensor.name.ends_with("position_ids")
    });
    tensors
}

#[cfg(test)]
mod tests;
