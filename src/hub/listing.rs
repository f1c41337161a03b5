//! What the cache has of the hub, and what could be pulled.

use super::cache::Folder;
use super::{Files, Found, HubError, Wanted, find};
use crate::config::HubConfig;
use crate::endpoint::Published;
use latentd_models::{ClassifierManifest, Manifest};
use std::path::PathBuf;

/// A model or a classifier of the hub.
pub(crate) struct Listed {
    /// As flags take it.
    pub(crate) name: String,
    /// `complete`, `incomplete` or `to be pulled`.
    pub(crate) state: &'static str,
    /// On disk, or to be pulled.
    pub(crate) bytes: Option<u64>,
    /// Its directory, if it is complete.
    pub(crate) path: Option<PathBuf>,
    /// Where fal has it.
    pub(crate) endpoint: Option<String>,
}

/// Every one.
pub(crate) fn all(hub: &HubConfig) -> Result<Vec<Listed>, HubError> {
    let mut listed = known(hub)?;
    listed.extend(others(hub)?);
    Ok(listed)
}

/// What manifests name, here or not.
fn known(hub: &HubConfig) -> Result<Vec<Listed>, HubError> {
    let sum = |files: &std::collections::BTreeMap<String, u64>| files.values().sum();
    let models = Manifest::all().iter().map(|manifest| (&manifest.name, sum(&manifest.files)));
    let classifiers = ClassifierManifest::all().iter().map(|manifest| (&manifest.name, sum(&manifest.files)));
    let named = models.chain(classifiers);
    let line = |(name, bytes): (&String, u64)| {
        let wanted = Wanted::named(name, "main")?;
        Some(line(hub, name, &wanted, bytes))
    };
    named.filter_map(line).collect()
}

/// What else is in the cache and can be run.
fn others(hub: &HubConfig) -> Result<Vec<Listed>, HubError> {
    let is_known = |repository: &str| {
        Manifest::find(repository).is_some() || ClassifierManifest::find(repository).is_some()
    };
    let folders = Folder::all(&hub.cache).into_iter().filter(|(repository, _)| !is_known(repository));
    let line = |(repository, folder): (String, Folder)| {
        let commit = folder.commit("main").or_else(|| folder.commits().into_iter().next())?;
        let wanted = Wanted { repository, revision: commit, files: Files::Pipeline };
        // Other programs keep other models there.
        let is_model = folder.snapshot(&wanted.revision).join("model_index.json").is_file();
        let line = line(hub, &wanted.repository, &wanted, 0);
        (is_model && !matches!(line, Err(HubError::NotRunnable { .. }))).then_some(line)
    };
    folders.filter_map(line).collect()
}

fn line(hub: &HubConfig, name: &str, wanted: &Wanted, to_pull: u64) -> Result<Listed, HubError> {
    let bytes = Folder::new(&hub.cache, &wanted.repository).bytes();
    let (state, bytes, path) = match find(hub, wanted)? {
        Found::Here(path) => ("complete", Some(bytes), Some(path)),
        Found::Incomplete(_) => ("incomplete", Some(bytes), None),
        Found::Nothing if bytes > 0 => ("incomplete", Some(bytes), None),
        Found::Nothing => ("to be pulled", Some(to_pull).filter(|bytes| *bytes > 0), None),
    };
    let endpoint = Manifest::find(name).map(|manifest| Published::of(manifest).id());
    Ok(Listed { name: name.into(), state, bytes, path, endpoint })
}
