//! What is known of published models before any of their files is here: `manifests/*.toml`.

mod classifier;

pub use classifier::ClassifierManifest;

use crate::{ModelCard, ModelSource};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A published model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `stable-diffusion-3.5-large`.
    pub name: String,
    /// For people.
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
    /// Where fal has it.
    pub endpoint: Endpoint,
    /// What is pulled: paths, and their bytes as far as planning needs them.
    pub files: BTreeMap<String, u64>,
}

/// An endpoint of fal: its name, and what fal fills in and allows there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `owner/alias`.
    pub application: String,
    /// Below the application: empty, or `turbo`.
    pub path: String,
    /// Is there an endpoint below it that begins from a picture?
    pub image_to_image: bool,
    /// Denoising steps where none are asked for.
    pub steps: usize,
    /// Most of them.
    pub max_steps: usize,
    /// Guidance scale where none is asked for.
    pub guidance: f64,
    /// Largest of them.
    pub max_guidance: f64,
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

/// The path below the large model's endpoint of the one that was distilled from it, and what its files are called.
const TURBO: &str = "turbo";

impl Endpoint {
    /// Its id: `fal-ai/stable-diffusion-v35-large/turbo`.
    pub fn id(&self) -> String {
        let separator = if self.path.is_empty() { "" } else { "/" };
        format!("{}{separator}{}", self.application, self.path)
    }
}

impl Manifest {
    /// Every published model that latentd knows, the one to begin with first.
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

    /// The published model that a model is, or was made of: told from its transformer, and where two have the same
    /// one, from the name of its place.
    pub fn told(card: &ModelCard, source: &ModelSource) -> &'static Self {
        let is_medium = |manifest: &Self| manifest.endpoint.application.ends_with("medium");
        let is_turbo = |manifest: &Self| manifest.endpoint.path == TURBO;
        let wants_medium = card.dual_attention;
        let wants_turbo = !wants_medium && source.is_called(TURBO);
        let found = Self::all()
            .iter()
            .find(|manifest| is_medium(manifest) == wants_medium && is_turbo(manifest) == wants_turbo);
        found.unwrap_or(&Self::all()[0])
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
        let ids: Vec<String> = Manifest::all().iter().map(|manifest| manifest.endpoint.id()).collect();
        assert_eq!(
            ids,
            [
                "fal-ai/stable-diffusion-v35-large",
                "fal-ai/stable-diffusion-v35-large/turbo",
                "fal-ai/stable-diffusion-v35-medium"
            ]
        );
    }

    #[test]
    fn a_model_is_told_from_its_transformer_and_its_place() {
        let told = |dual_attention, place: &str| {
            let card = ModelCard {
                name: "x".into(),
                size_multiple: 16,
                max_side: 1024,
                trained: None,
                dual_attention,
            };
            let manifest = Manifest::told(&card, &ModelSource::Directory(place.into()));
            manifest.name.strip_prefix("stable-diffusion-3.5-").expect("all are of one kind")
        };
        assert_eq!(told(false, "/turbo/my-model"), "large");
        assert_eq!(told(false, "/models/My-Turbo"), "large-turbo");
        assert_eq!(told(false, "/h/models--me--sd-turbo/snapshots/8ab3"), "large-turbo");
        assert_eq!(told(false, "/h/models--me--sd/snapshots/8ab3"), "large");
        assert_eq!(told(true, "/models/turbo"), "medium");
    }
}
