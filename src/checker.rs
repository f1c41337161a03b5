//! The safety checker that a configuration names: its download and its directory.

use crate::config::safety::{Checker, SafetyConfig};
use crate::config::{HubConfig, ModelLocation, NamedModel};
use crate::hub_models;
use crate::model_error::{self, ModelError};
use latentd_hub::HubError;
use latentd_models::{ClassifierManifest, Error, ModelSource, SafetyOptions, SafetySource};
use std::path::PathBuf;
use tokio::runtime::Runtime;

/// Why a model or its safety checker cannot be downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The model.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The model was downloaded and cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The safety checker.
    #[error("the safety checker {repository}: {error}{advice}")]
    Checker {
        /// `owner/name`.
        repository: String,
        /// Why.
        error: Box<HubError>,
        /// How to do without it, if that is allowed.
        advice: &'static str,
    },
}

/// Downloads models that are named by their hub id, with the checker that they need, and a checker that is named itself.
/// For a model on disk nothing else is downloaded: a checker that is missing is then refused by [`resolve`].
pub(crate) async fn ensure_downloaded(
    hub: &HubConfig,
    config: &SafetyConfig,
    models: &mut [NamedModel],
) -> Result<(), DownloadError> {
    for model in models {
        model.location = ModelLocation::Local(ensure_one(hub, config, &model.location).await?);
    }
    Ok(())
}

async fn ensure_one(
    hub: &HubConfig,
    config: &SafetyConfig,
    location: &ModelLocation,
) -> Result<ModelSource, DownloadError> {
    let source = hub_models::ensure_downloaded(hub, location).await?;
    let may_download = needs_hub(config, location) && hub.offline.is_none();
    if may_download {
        ensure_published(hub, config, &source).await?;
    }
    Ok(source)
}

/// The published classifier that has to be in the cache for this model, if one has to, and its directory. It is downloaded
/// unless it is there.
pub(crate) async fn ensure_published(
    hub: &HubConfig,
    config: &SafetyConfig,
    model: &ModelSource,
) -> Result<Option<(&'static ClassifierManifest, PathBuf)>, DownloadError> {
    let Some(manifest) = published(config, model)? else { return Ok(None) };
    match hub_models::ensure_classifier_downloaded(hub, manifest).await {
        Ok(directory) => Ok(Some((manifest, directory))),
        Err(error) => {
            let repository = manifest.repository.clone();
            Err(DownloadError::Checker { repository, error: error.into(), advice: without(config) })
        }
    }
}

/// The same for a command that runs one model and is not asynchronous; what the model is loaded from.
pub(crate) fn ensure_downloaded_blocking(
    runtime: &Runtime,
    hub: &HubConfig,
    config: &SafetyConfig,
    location: &ModelLocation,
) -> Result<ModelSource, DownloadError> {
    match location {
        ModelLocation::Local(source) if !needs_hub(config, location) => Ok(source.clone()),
        location => hub_models::block_on(runtime, ensure_one(hub, config, location)),
    }
}

fn needs_hub(config: &SafetyConfig, location: &ModelLocation) -> bool {
    location.local().is_none() || matches!(config.checker, Checker::Published(_))
}

/// The published classifier that [`ensure_downloaded`] would download for a model; `named` is the model as the command
/// line names it, and `local` where its files are.
///
/// # Errors
/// The model cannot be read.
pub(crate) fn pending_download(
    hub: &HubConfig,
    config: &SafetyConfig,
    named: &ModelLocation,
    local: &ModelSource,
) -> model_error::Result<Option<&'static ClassifierManifest>> {
    let may_download = needs_hub(config, named) && hub.offline.is_none();
    let manifest = published(config, local)?.filter(|_| may_download);
    Ok(manifest.filter(|manifest| hub_models::cached_classifier(hub, manifest).is_none()))
}

/// The published classifier that has to be in the cache for this model, if one has to.
fn published(
    config: &SafetyConfig,
    model: &ModelSource,
) -> model_error::Result<Option<&'static ClassifierManifest>> {
    match &config.checker {
        Checker::Published(manifest) => Ok(Some(manifest)),
        Checker::Auto if *model == ModelSource::Builtin || model.has_safety_checker()? => Ok(None),
        Checker::Auto => Ok(ClassifierManifest::all().first()),
        Checker::Nobody | Checker::Directory(_) => Ok(None),
    }
}

/// What to load for this model, with its files looked at but not loaded. Nothing is fetched.
///
/// # Errors
/// The classifier is not in the cache, with how to get it or do without, or it does not fit the model.
pub(crate) fn resolve(
    config: &SafetyConfig,
    hub: &HubConfig,
    model: &ModelSource,
) -> model_error::Result<SafetyOptions> {
    let source = match (published(config, model)?, &config.checker) {
        (Some(manifest), _) => match hub_models::cached_classifier(hub, manifest) {
            Some(directory) => SafetySource::Directory(directory),
            None => return Err(Error::Model(missing(config, model, manifest)).into()),
        },
        (None, Checker::Nobody) => SafetySource::Disabled,
        (None, Checker::Directory(directory)) => SafetySource::Directory(directory.clone()),
        (None, _) => SafetySource::Own,
    };
    let options = SafetyOptions { source, threshold: config.threshold, forced: config.forced };
    options.verify(model)?;
    Ok(options)
}

/// What is used, for the log.
pub(crate) fn describe(options: &SafetyOptions) -> String {
    match &options.source {
        SafetySource::Own => "the model's own".into(),
        SafetySource::Disabled => "none".into(),
        SafetySource::Directory(directory) => directory.display().to_string(),
    }
}

fn missing(config: &SafetyConfig, model: &ModelSource, manifest: &ClassifierManifest) -> String {
    let ClassifierManifest { name, repository, .. } = manifest;
    let why = match config.checker {
        Checker::Auto => format!("{model} has no safety checker of its own, and {repository}"),
        _ => format!("the safety checker {repository}"),
    };
    let without = without(config);
    format!("{why} is not in the Hugging Face cache: get it by `latentd models pull {name}`{without}")
}

fn without(config: &SafetyConfig) -> &'static str {
    if config.forced { "" } else { ", or do without by `--safety-checker none`" }
}
