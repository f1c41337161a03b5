//! Where the safety checker is that a configuration means.

use crate::args::HubArgs;
use crate::config::safety::{Checker, SafetyConfig};
use crate::hub;
use crate::model_error::Result;
use latentd_models::{ClassifierManifest, Error, ModelSource, SafetyOptions, SafetySource};

/// Brings what is asked of the hub: models that are named by their id, and the checker that goes with them or is named
/// itself. Whose model is on disk has asked nothing of the hub: what is missing is then told by [`resolve`].
pub(crate) async fn bring(
    args: &HubArgs,
    config: &SafetyConfig,
    sources: impl IntoIterator<Item = &mut ModelSource>,
) -> anyhow::Result<()> {
    for source in sources {
        let asked = asks_hub(config, source);
        hub::bring(args, [&mut *source]).await?;
        let is_offline = hub::config(args)?.offline.is_some();
        let Some(manifest) = wanted(config, source)?.filter(|_| asked && !is_offline) else { continue };
        if let Err(error) = hub::bring_classifier(args, manifest).await {
            anyhow::bail!("the safety checker {}: {error}{}", manifest.repository, without(config));
        }
    }
    Ok(())
}

/// The same for a command that has no runtime.
pub(crate) fn bring_one(
    args: &HubArgs,
    config: &SafetyConfig,
    source: &mut ModelSource,
) -> anyhow::Result<()> {
    if !asks_hub(config, source) {
        return Ok(());
    }
    hub::block_on(bring(args, config, [source]))
}

fn asks_hub(config: &SafetyConfig, source: &ModelSource) -> bool {
    matches!(source, ModelSource::Hub { .. }) || matches!(config.checker, Checker::Published(_))
}

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
        (Some(manifest), _) => match hub::classifier(manifest) {
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
