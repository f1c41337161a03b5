//! The models of the hub that are in the cache, and the published ones that can be downloaded.

use super::{MAIN, model_repo};
use crate::config::HubConfig;
use crate::config::model::published_endpoint;
use latentd_hub::{CacheStatus, CachedRepo, Files, HubError, ModelRepo};
use latentd_models::{ClassifierManifest, Manifest};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A model or a classifier of the hub.
pub(crate) struct ListedModel {
    /// As flags take it.
    pub(crate) name: String,
    /// `complete`, `incomplete` or `to be pulled`.
    pub(crate) state: &'static str,
    /// Bytes on disk, or else to be downloaded.
    pub(crate) bytes: Option<u64>,
    /// Its directory, if it is complete.
    pub(crate) path: Option<PathBuf>,
    /// The id of its endpoint.
    pub(crate) endpoint: Option<String>,
}

/// Every published model and classifier, and what else is in the cache and can be run.
pub(crate) fn all(hub: &HubConfig) -> Result<Vec<ListedModel>, HubError> {
    let mut listed = published(hub)?;
    listed.extend(others(hub)?);
    Ok(listed)
}

/// Those that have a manifest, in the cache or not.
fn published(hub: &HubConfig) -> Result<Vec<ListedModel>, HubError> {
    let sum = |files: &BTreeMap<String, u64>| files.values().sum::<u64>();
    let models =
        Manifest::all().iter().map(|manifest| (&manifest.name, &manifest.repository, &manifest.files));
    let classifiers = ClassifierManifest::all()
        .iter()
        .map(|manifest| (&manifest.name, &manifest.repository, &manifest.files));
    let named = models.chain(classifiers);
    named
        .map(|(name, repository, files)| listed(hub, name, &model_repo(repository, MAIN), sum(files)))
        .collect()
}

/// Those in the cache that have no manifest.
fn others(hub: &HubConfig) -> Result<Vec<ListedModel>, HubError> {
    let is_published = |repository: &str| {
        Manifest::find(repository).is_some() || ClassifierManifest::find(repository).is_some()
    };
    let cached = latentd_hub::cached_repos(hub).into_iter();
    // Other programs keep other models there.
    let models = cached
        .filter(|repo| !is_published(&repo.repository) && repo.snapshot.join("model_index.json").is_file());
    let found = models.filter_map(|CachedRepo { repository, commit, .. }| {
        let repo = ModelRepo { repository, revision: commit, files: Files::pipeline() };
        let listed = listed(hub, &repo.repository, &repo, 0);
        (!matches!(listed, Err(HubError::NotRunnable { .. }))).then_some(listed)
    });
    found.collect()
}

fn listed(
    hub: &HubConfig,
    name: &str,
    repo: &ModelRepo,
    bytes_to_pull: u64,
) -> Result<ListedModel, HubError> {
    let bytes = latentd_hub::cached_bytes(hub, &repo.repository);
    let (state, bytes, path) = match latentd_hub::cache_status(hub, repo)? {
        CacheStatus::Complete(path) => ("complete", Some(bytes), Some(path)),
        CacheStatus::Incomplete(_) => ("incomplete", Some(bytes), None),
        CacheStatus::Absent if bytes > 0 => ("incomplete", Some(bytes), None),
        CacheStatus::Absent => ("to be pulled", Some(bytes_to_pull).filter(|bytes| *bytes > 0), None),
    };
    let endpoint = Manifest::find(name).map(|manifest| published_endpoint(manifest).id());
    Ok(ListedModel { name: name.into(), state, bytes, path, endpoint })
}
