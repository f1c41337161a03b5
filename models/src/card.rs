//! What a model is and which sizes it can paint, read from its config files alone.

use crate::config::Configs;
use crate::{Error, ModelSource, Result};

/// Facts of a model that need no weights in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// `mini`, or the directory's name.
    pub name: String,
    /// Both sides of a canvas are multiples of this many pixels.
    pub size_multiple: usize,
    /// Longest side in pixels (`pos_embed_max_size` patches).
    pub max_side: usize,
    /// Does its transformer have blocks that attend twice, as that of SD3.5 Medium?
    pub dual_attention: bool,
}

impl ModelCard {
    /// Reads the card of a model.
    ///
    /// # Errors
    /// It is in no layout that latentd knows, or describes a model that latentd cannot run.
    pub fn read(source: &ModelSource) -> Result<Self> {
        Ok(Self::new(&Configs::read(&source.files()?)?, source.name()))
    }

    pub(crate) fn new(configs: &Configs, name: String) -> Self {
        let multiple = configs.transformer.patch_size * configs.vae.factor();
        Self {
            name: configs.index.note.name.clone().unwrap_or(name),
            size_multiple: multiple,
            max_side: configs.transformer.pos_embed_max_size * multiple,
            dual_attention: !configs.transformer.dual_attention_layers.is_empty(),
        }
    }

    /// The canvas `(width, height)` for a picture of any size: the next multiples. The picture is its middle.
    ///
    /// # Errors
    /// [`Error::Request`] names the limit.
    pub fn canvas(&self, width: usize, height: usize) -> Result<(usize, usize)> {
        for (side, pixels) in [("width", width), ("height", height)] {
            if pixels == 0 {
                return Err(Error::Request(format!("{side} 0 is no size: use 1 or more")));
            }
            self.check_side(side, pixels)?;
        }
        let up = |pixels: usize| pixels.next_multiple_of(self.size_multiple);
        let canvas = (up(width), up(height));
        self.check_size(canvas.0, canvas.1)?;
        Ok(canvas)
    }

    /// Whether the model can paint a canvas of this size.
    ///
    /// # Errors
    /// [`Error::Request`] names the limit.
    pub fn check_size(&self, width: usize, height: usize) -> Result<()> {
        let Self { size_multiple: multiple, max_side, .. } = *self;
        for (side, pixels) in [("width", width), ("height", height)] {
            if pixels == 0 || !pixels.is_multiple_of(multiple) {
                let below = (pixels / multiple * multiple).clamp(multiple, max_side);
                let above = (below + multiple).min(max_side);
                return Err(Error::Request(format!(
                    "{side} {pixels} is not a multiple of {multiple}: use {below} or {above}"
                )));
            }
            self.check_side(side, pixels)?;
        }
        Ok(())
    }

    /// Whether a side is no longer than the model's longest.
    fn check_side(&self, side: &str, pixels: usize) -> Result<()> {
        let max_side = self.max_side;
        if pixels > max_side {
            return Err(Error::Request(format!(
                "{side} {pixels} is over this model's limit of {max_side} (pos_embed_max_size)"
            )));
        }
        Ok(())
    }
}
