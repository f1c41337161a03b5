//! Where the safety checker is that a configuration means.

use crate::args::variable;
use crate::config::safety::{Checker, SafetyConfig};
use latentd_models::{ClassifierManifest, Error, ModelSource, Result, SafetyOptions, SafetySource};
use std::path::PathBuf;

/// The published classifier that `config` means for this model, if it means one: what has to be in the cache.
pub(crate) fn wanted(
    config: &SafetyConfig,
    model: &ModelSource,
) -> Result<Option<&'static ClassifierManifest>> {
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
/// The classifier is not here, and the text says how to get it and how to do without; or what does not fit.
pub(crate) fn resolve(config: &SafetyConfig, model: &ModelSource) -> Result<SafetyOptions> {
    let source = match (wanted(config, model)?, &config.checker) {
        (Some(manifest), _) => match snapshot(manifest) {
            Some(directory) => SafetySource::Directory(directory),
            None => return Err(Error::Model(missing(config, model, manifest))),
        },
        (None, Checker::Nobody) => SafetySource::Nobody,
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
        SafetySource::Nobody => "none".into(),
        SafetySource::Directory(directory) => directory.display().to_string(),
    }
}

fn missing(config: &SafetyConfig, model: &ModelSource, manifest: &ClassifierManifest) -> String {
    let ClassifierManifest { name, repository, .. } = manifest;
    let why = match config.checker {
        Checker::Auto => format!("{model} has no safety checker of its own, and {repository}"),
        _ => format!("the safety checker {repository}"),
    };
    let without = if config.forced { "" } else { ", or do without by `--safety-checker none`" };
    format!("{why} is not in the Hugging Face cache: get it by `latentd models pull {name}`{without}")
}

/// The directory of a classifier in the Hugging Face cache, if all its files are there.
fn snapshot(manifest: &ClassifierManifest) -> Option<PathBuf> {
    let repository = cache()?.join(format!("models--{}", manifest.repository.replace('/', "--")));
    let commit = std::fs::read_to_string(repository.join("refs/main")).ok()?;
    let directory = repository.join("snapshots").join(commit.trim());
    manifest.files.keys().all(|name| directory.join(name).is_file()).then_some(directory)
}

/// Where huggingface_hub keeps repositories.
fn cache() -> Option<PathBuf> {
    let at = |name: &str, folder: &str| variable(name).map(|path| PathBuf::from(path).join(folder));
    at("HF_HUB_CACHE", "")
        .or_else(|| at("HF_HOME", "hub"))
        .or_else(|| at("XDG_CACHE_HOME", "huggingface/hub"))
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache/huggingface/hub")))
}
