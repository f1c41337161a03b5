//! What a model is and which sizes it can generate, read from its config files alone.

use crate::config::{Configs, TransformerConfig};
use crate::{Error, Manifest, ModelSource, Result};

/// Facts of a model that need no weights in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// `mini`, or the directory's name.
    pub name: String,
    /// Both sides of a canvas are multiples of this many pixels.
    pub size_multiple: usize,
    /// Longest side in pixels (`pos_embed_max_size` patches).
    pub max_side: usize,
    /// Which published model it is made like, and how many pixels that was trained for at most.
    pub trained: Option<Trained>,
    /// How many blocks its transformer has.
    pub layers: usize,
    /// Does its transformer have blocks that attend twice, as that of SD3.5 Medium?
    pub dual_attention: bool,
}

/// How large the images of a published model's training were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trained {
    /// The model, for display.
    pub title: &'static str,
    /// Pixels of the largest.
    pub pixels: usize,
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
            trained: trained(&configs.transformer),
            layers: configs.transformer.num_layers,
            dual_attention: !configs.transformer.dual_attention_layers.is_empty(),
        }
    }

    /// The canvas `(width, height)` for an image of any size: the next multiples. The image is its middle.
    ///
    /// # Errors
    /// [`Error::Request`] names the side as it was asked for, and the limit, which is a multiple itself.
    pub fn canvas(&self, width: usize, height: usize) -> Result<(usize, usize)> {
        let Self { size_multiple: multiple, max_side, .. } = *self;
        for (side, pixels) in [("width", width), ("height", height)] {
            if pixels == 0 {
                return Err(Error::Request(format!("{side} 0 is no size: give 1 to {max_side}")));
            }
            if pixels > max_side {
                return Err(beyond(side, pixels, max_side));
            }
        }
        Ok((width.next_multiple_of(multiple), height.next_multiple_of(multiple)))
    }

    /// What to say of a size that is beyond what the model was trained for; it is generated all the same.
    pub fn beyond_training(&self, width: usize, height: usize) -> Option<String> {
        let Trained { title, pixels } = self.trained.as_ref()?;
        let asked = width.saturating_mul(height);
        (asked > *pixels).then(|| {
            let megapixels = |pixels: usize| pixels as f64 / 1e6;
            format!(
                "{width}x{height} has {:.2} megapixels, and {title} was trained for {:.2} at most: expect repeated \
                 or broken parts, or ask for a smaller size",
                megapixels(asked),
                megapixels(*pixels)
            )
        })
    }

    /// The published model that this one is, or was made of: by its transformer, and where two have the same one, by the
    /// name of `source`.
    pub fn identify(&self, source: &ModelSource) -> &'static Manifest {
        let alike =
            || Manifest::all().iter().filter(|manifest| manifest.dual_attention == self.dual_attention);
        let named =
            alike().find(|manifest| manifest.name_word.as_ref().is_some_and(|word| source.is_called(word)));
        let found = named.or_else(|| alike().find(|manifest| manifest.name_word.is_none()));
        found.unwrap_or(&Manifest::all()[0])
    }

    /// Whether the model can generate a canvas of this size.
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
            if pixels > max_side {
                return Err(beyond(side, pixels, max_side));
            }
        }
        Ok(())
    }
}

fn beyond(side: &str, pixels: usize, max_side: usize) -> Error {
    Error::Request(format!("{side} {pixels} is over this model's limit of {max_side} (pos_embed_max_size)"))
}

/// Fine-tuned models are trained like the published one of which they were made.
fn trained(config: &TransformerConfig) -> Option<Trained> {
    let like = Manifest::of_blocks(config.num_layers).filter(|_| config.qk_norm.is_some())?;
    Some(Trained { title: &like.title, pixels: like.trained_pixels })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> ModelCard {
        let large = Manifest::of_blocks(38).expect("Large");
        let trained = Some(Trained { title: &large.title, pixels: large.trained_pixels });
        ModelCard {
            name: "x".into(),
            size_multiple: 16,
            max_side: 3072,
            trained,
            layers: 38,
            dual_attention: false,
        }
    }

    #[test]
    fn a_side_is_refused_as_it_was_asked_for() {
        for (size, words) in [
            ((5000, 64), "width 5000 is over this model's limit of 3072"),
            ((64, 3073), "height 3073 is over"),
            ((0, 64), "width 0 is no size"),
        ] {
            let error = card().canvas(size.0, size.1).expect_err("a refusal").to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(card().canvas(3072, 3057).expect("a canvas"), (3072, 3072));
        assert_eq!(card().canvas(1, 17).expect("a canvas"), (16, 32));
    }

    #[test]
    fn a_size_beyond_training_is_named_in_the_warning() {
        let words = card().beyond_training(1408, 1408).expect("a note");
        assert!(words.contains("1408x1408") && words.contains("Stable Diffusion 3.5 Large"), "{words}");
        for (width, height) in [(1024, 1024), (1344, 768), (1536, 640), (64, 64)] {
            assert_eq!(card().beyond_training(width, height), None);
        }
        assert_eq!(ModelCard { trained: None, ..card() }.beyond_training(3072, 3072), None);
        let medium = Manifest::of_blocks(24).expect("Medium");
        assert!(medium.trained_pixels >= 1408 * 1408);
    }

    #[test]
    fn a_model_is_identified_by_its_transformer_and_its_place() {
        let name = |dual_attention, place: &str| {
            let card = ModelCard {
                name: "x".into(),
                size_multiple: 16,
                max_side: 1024,
                trained: None,
                layers: 38,
                dual_attention,
            };
            let manifest = card.identify(&ModelSource::Directory(place.into()));
            manifest.name.strip_prefix("stable-diffusion-3.5-").expect("all are of one kind")
        };
        assert_eq!(name(false, "/turbo/my-model"), "large");
        assert_eq!(name(false, "/models/My-Turbo"), "large-turbo");
        assert_eq!(name(false, "/h/models--me--sd-turbo/snapshots/8ab3"), "large-turbo");
        assert_eq!(name(false, "/h/models--me--sd/snapshots/8ab3"), "large");
        assert_eq!(name(true, "/models/turbo"), "medium");
    }
}
