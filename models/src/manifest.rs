//! What is known of published models before any of their files is here: `manifests/*.toml`.

mod classifier;

pub use classifier::ClassifierManifest;

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A published model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `stable-diffusion-3.5-large`.
    pub name: String,
    /// For display.
    pub title: String,
    /// Its repository on the Hugging Face hub, `owner/name`.
    pub repository: String,
    /// The checkpoint in the original layout that lies in the same repository, and is not pulled.
    pub single_file: String,
    /// Blocks of its transformer.
    pub blocks: usize,
    /// Shift of its noise schedule, as its `scheduler_config.json` has it; no checkpoint file says it.
    pub shift: f64,
    /// Pixels of the largest images that it was trained for.
    pub trained_pixels: usize,
    /// Does its transformer have blocks that attend twice?
    pub dual_attention: bool,
    /// The word in the name of a fine-tuned model that distinguishes it from another one with the same transformer.
    #[serde(default)]
    pub name_word: Option<String>,
    /// What is pulled: paths, and their bytes as far as planning needs them.
    pub files: BTreeMap<String, u64>,
}

static MANIFESTS: LazyLock<Vec<Manifest>> = LazyLock::new(|| {
    [
        include_str!("../manifests/stable-diffusion-3.5-large.toml"),
        include_str!("../manifests/stable-diffusion-3.5-large-turbo.toml"),
        include_str!("../manifests/stable-diffusion-3.5-medium.toml"),
    ]
    .map(|text| toml::from_str(text).expect("manifests are tested"))
    .into()
});

impl Manifest {
    /// Every published model that latentd knows, the default one first.
    pub fn all() -> &'static [Self] {
        &MANIFESTS
    }

    /// The model of this name or repository.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|manifest| manifest.name == name || manifest.repository == name)
    }

    /// The first published model whose transformer has so many blocks.
    pub(crate) fn of_blocks(blocks: usize) -> Option<&'static Self> {
        Self::all().iter().find(|manifest| manifest.blocks == blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_read_and_found() {
        for manifest in Manifest::all() {
            assert_eq!(Manifest::find(&manifest.repository), Some(manifest));
            assert_eq!(Manifest::find(&manifest.name), Some(manifest));
            assert!(manifest.files.contains_key("model_index.json"), "{}", manifest.name);
            assert!(!manifest.files.contains_key(&manifest.single_file), "{}", manifest.name);
        }
        assert_eq!(Manifest::find("stabilityai/other"), None);
    }
}
