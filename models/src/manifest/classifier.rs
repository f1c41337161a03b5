//! What is known of published safety classifiers before any of their files is here: `manifests/safety/*.toml`.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A published safety classifier.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierManifest {
    /// `falconsai`.
    pub name: String,
    /// For display.
    pub title: String,
    /// Its repository on the Hugging Face hub, `owner/name`.
    pub repository: String,
    /// What is pulled: paths, and their bytes as far as planning needs them.
    pub files: BTreeMap<String, u64>,
}

static MANIFESTS: LazyLock<Vec<ClassifierManifest>> = LazyLock::new(|| {
    [
        include_str!("../../manifests/safety/falconsai.toml"),
        include_str!("../../manifests/safety/compvis.toml"),
    ]
    .map(|text| toml::from_str(text).expect("manifests are tested"))
    .into()
});

impl ClassifierManifest {
    /// Every published classifier that latentd knows, the usual one first.
    pub fn all() -> &'static [Self] {
        &MANIFESTS
    }

    /// The classifier of this name or repository.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|manifest| manifest.name == name || manifest.repository == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_read_and_found() {
        for manifest in ClassifierManifest::all() {
            assert_eq!(ClassifierManifest::find(&manifest.repository), Some(manifest));
            assert_eq!(ClassifierManifest::find(&manifest.name), Some(manifest));
            assert!(manifest.files.contains_key("model.safetensors"), "{}", manifest.name);
        }
        assert_eq!(ClassifierManifest::find("Falconsai/other"), None);
    }
}
