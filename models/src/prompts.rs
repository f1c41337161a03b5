//! Encodes prompts, and keeps the last encodings, so that a prompt is encoded once.

use crate::Result;
use crate::lora::{AdaptedLayers, AdapterSet};
use crate::text::{Cut, TextConditioning, TextEncoders};
use candle_core::{Device, Tensor};

/// Host memory for prompts that were encoded: at 2.7 MB each in bf16 the last 24, or 12 in f32.
const KEPT_BYTES: usize = 64 << 20;

/// The text encoders and what they found lately.
pub(crate) struct Prompts {
    encoders: TextEncoders,
    adapted: AdaptedLayers,
    /// The last used at the end.
    kept: Vec<CachedPrompt>,
    /// How much may be kept.
    bytes: usize,
}

struct CachedPrompt {
    text: String,
    t5_tokens: usize,
    /// What changed the encoders; empty if nothing did.
    adapters: String,
    /// One row, on the host.
    found: TextConditioning,
    cuts: Vec<Cut>,
}

/// What a request's texts are to the transformer.
pub(crate) struct Encoded {
    /// One row each, on the host.
    pub(crate) texts: Vec<TextConditioning>,
    /// What the encoders do not see of each.
    pub(crate) cuts: Vec<Vec<Cut>>,
    /// How many of them were known.
    pub(crate) known: usize,
}

impl Prompts {
    /// `adapted` are the layers of the encoders.
    pub(crate) fn new(encoders: TextEncoders, adapted: AdaptedLayers) -> Self {
        Self { encoders, adapted, kept: Vec::new(), bytes: KEPT_BYTES }
    }

    /// Ids of one text for each encoder.
    pub(crate) fn token_ids(&self, text: &str, t5_tokens: usize) -> Result<[Vec<u32>; 3]> {
        self.encoders.token_ids(text, t5_tokens)
    }

    /// Encodes each text alone, so that what is found does not depend on what was known.
    pub(crate) fn encode(&mut self, texts: &[&str], t5_tokens: usize, set: &AdapterSet) -> Result<Encoded> {
        let adapters = self.adapted.identity(set);
        let mut encoded = Encoded { texts: Vec::new(), cuts: Vec::new(), known: 0 };
        for text in texts {
            let known = self.kept.iter().position(|kept| {
                kept.text == *text && kept.t5_tokens == t5_tokens && kept.adapters == adapters
            });
            if let Some(index) = known {
                self.kept[index..].rotate_left(1);
                encoded.known += 1;
            } else {
                self.adapted.apply(set)?;
                let found = self.encoders.encode(&[text], t5_tokens)?.on(&Device::Cpu)?;
                self.encoders.check(&found)?;
                let cuts = self.encoders.cuts(text, t5_tokens)?;
                let (text, adapters) = ((*text).to_owned(), adapters.clone());
                self.kept.push(CachedPrompt { text, t5_tokens, adapters, found, cuts });
            }
            encoded.texts.extend(self.kept.last().map(|kept| kept.found.clone()));
            encoded.cuts.extend(self.kept.last().map(|kept| kept.cuts.clone()));
            self.forget(self.bytes);
        }
        Ok(encoded)
    }

    /// Drops the adapters' tensors.
    pub(crate) fn forget_adapters(&mut self) {
        self.adapted.forget();
    }

    /// Forgets the prompts that were not used for longest, until at most so many bytes are kept.
    pub(crate) fn forget(&mut self, bytes: usize) {
        let mut left = bytes;
        let stay = self.kept.iter().rev().take_while(|kept| {
            let size = kept.bytes();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        });
        let gone = self.kept.len() - stay.count();
        self.kept.drain(..gone);
    }
}

impl CachedPrompt {
    fn bytes(&self) -> usize {
        let of = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let dropped: usize = self.cuts.iter().map(|cut| cut.dropped.len()).sum();
        self.text.len() + self.adapters.len() + dropped + of(&self.found.context) + of(&self.found.pooled)
    }
}

#[cfg(test)]
mod tests;
