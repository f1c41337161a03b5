//! The checks of a configuration that `serve` makes before it accepts requests, and that `doctor` reports.
//!
//! They come in two parts: what can be known before anything is downloaded, and what the files of a model say.

use super::ServeError;
use crate::checker;
use crate::config::{
    AdapterConfig, ConfigError, Model, ModelLocation, ModelsError, NamedModel, ServeConfig, StoreConfig,
    model,
};
use crate::hub_models;
use crate::identity;
use crate::memory_budget;
use crate::memory_check;
use crate::model_error::ModelError;
use crate::storage::Storage;
use latentd_models::{
    ImageEncoderFiles, Lora, Manifest, SafetyOptions, check_controlnet, check_ip_adapter, check_lora,
};
use std::path::Path;

/// A model with its files found in the cache, if they are complete there; otherwise it stays a hub id.
///
/// # Errors
/// It is not in the cache and downloads are forbidden, or what is in the cache cannot be run.
pub(crate) fn locate(config: &ServeConfig, named: &NamedModel) -> Result<NamedModel, ServeError> {
    let location = hub_models::locate(&config.hub, &named.location)?;
    Ok(NamedModel { published: named.published, location })
}

/// The published model that would be downloaded for a located model, if one would.
pub(crate) fn to_download(located: &NamedModel) -> Option<&'static Manifest> {
    match &located.location {
        ModelLocation::Hub { repository, .. } => Manifest::find(repository),
        ModelLocation::Local(_) => None,
    }
}

/// Checks a published model by its manifest: the budget, the memory, and the disk that the download needs.
///
/// # Errors
/// It does not fit.
pub(crate) fn check_download(config: &ServeConfig, manifest: &Manifest) -> Result<(), ServeError> {
    for engine in &config.engines {
        memory_budget::check_published(manifest, engine, config.memory_budget)?;
    }
    memory_check::check_published(manifest, &config.engines)?;
    latentd_hub::check_free_space(&config.hub, &manifest.repository, manifest.files.values().sum())?;
    Ok(())
}

/// Gives the models whose files are here their endpoints.
///
/// # Errors
/// A model cannot be read, or two would answer for one endpoint.
pub(crate) fn assign(located: &[NamedModel]) -> Result<Vec<Model>, ModelsError> {
    model::assign(located)
}

/// Checks the files of a model against the memory budget.
///
/// # Errors
/// It is larger.
pub(crate) fn check_budget(config: &ServeConfig, model: &Model) -> Result<(), ServeError> {
    for engine in &config.engines {
        memory_budget::check_model(model, engine, config.memory_budget)?;
    }
    Ok(())
}

/// The safety checker of a model.
///
/// # Errors
/// It is not in the cache, or does not fit the model.
pub(crate) fn safety(config: &ServeConfig, model: &Model) -> Result<SafetyOptions, ServeError> {
    Ok(checker::resolve(&config.safety, &config.hub, &model.source)?)
}

/// Checks the files of a model, with its safety checker, against the memory that is free.
///
/// # Errors
/// It does not fit.
pub(crate) fn check_memory(
    config: &ServeConfig,
    model: &Model,
    safety: &SafetyOptions,
) -> Result<(), ServeError> {
    let work = memory_check::served(&model.source, &config.adapters);
    Ok(memory_check::check(&model.source, &config.engines, safety, &work)?)
}

/// Checks the LoRA adapters, ControlNets and IP-Adapters that the operator names against the models whose files are here.
///
/// # Errors
/// One fits none of them; the text is about the first.
pub(crate) fn check_adapters(config: &ServeConfig, models: &[Model]) -> Result<(), ServeError> {
    let AdapterConfig { named, controlnets, ip_adapters, .. } = &config.adapters;
    named.iter().try_for_each(|(name, path)| check_adapter(config, models, name, path))?;
    controlnets.iter().try_for_each(|(name, path)| check_named_controlnet(models, name, path))?;
    ip_adapters.iter().try_for_each(|(name, path)| check_named_ip_adapter(models, name, path))
}

/// Checks a ControlNet that the operator names.
///
/// # Errors
/// It fits none of the models.
pub(crate) fn check_named_controlnet(models: &[Model], name: &str, path: &Path) -> Result<(), ServeError> {
    let name = format!("{name} (--named-controlnet {name}={})", path.display());
    fits_one(models, |model| check_controlnet(&model.source, &name, path).map(drop))
}

/// The same of an IP-Adapter.
///
/// # Errors
/// It fits none of the models.
pub(crate) fn check_named_ip_adapter(models: &[Model], name: &str, path: &Path) -> Result<(), ServeError> {
    let name = format!("{name} (--named-ip-adapter {name}={})", path.display());
    let encoder = ImageEncoderFiles::inside(&name, path);
    fits_one(models, |model| check_ip_adapter(&model.source, (&name, path), &encoder).map(drop))
}

/// That a check succeeds with one of the models, if there is one; else its first error.
fn fits_one(
    models: &[Model],
    check: impl Fn(&Model) -> Result<(), latentd_models::Error>,
) -> Result<(), ServeError> {
    let mut refused = None;
    for model in models {
        match check(model) {
            Ok(()) => return Ok(()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(()), |error| Err(ModelError::from(error).into()))
}

/// The same of one adapter.
///
/// # Errors
/// It fits none of the models.
pub(crate) fn check_adapter(
    config: &ServeConfig,
    models: &[Model],
    name: &str,
    path: &Path,
) -> Result<(), ServeError> {
    let t5 = config.engines.first().is_none_or(|engine| engine.t5);
    let lora = Lora {
        name: format!("{name} (--lora {name}={})", path.display()),
        path: path.to_owned(),
        scale: 1.0,
    };
    fits_one(models, |model| check_lora(&model.source, t5, &lora))
}

/// Refuses a configuration before anything is downloaded for it.
pub(super) fn before_download(config: &ServeConfig) -> Result<(), ServeError> {
    let located = config.models.iter().map(|named| locate(config, named)).collect::<Result<Vec<_>, _>>()?;
    assign(&located)?.iter().try_for_each(|model| check_budget(config, model))?;
    located.iter().filter_map(to_download).try_for_each(|manifest| check_download(config, manifest))
}

/// Checks a bucket of files: whether it answers, what its key may do there, and that it is not another database's. What a
/// directory permits shows when it is opened.
///
/// # Errors
/// What to change.
pub(crate) async fn check_storage(store: &StoreConfig) -> Result<(), ServeError> {
    if store.files.directory().is_some() {
        return Ok(());
    }
    let storage = Storage::open(&store.files)?;
    storage.check().await?;
    Ok(identity::check_mark(&store.database, &storage).await?)
}

/// Refuses models that every worker here would fail on; workers elsewhere have checkers and memory of their own.
pub(super) fn check_models(config: &ServeConfig, models: &[Model]) -> Result<(), ServeError> {
    for model in models.iter().filter(|_| !config.engines.is_empty()) {
        check_budget(config, model)?;
        check_memory(config, model, &safety(config, model)?)?;
    }
    Ok(())
}

/// The addresses that can reach a server which has no keys: this machine's alone.
///
/// # Errors
/// Other machines could use it without a key.
pub(crate) fn check_reach(config: &ServeConfig, is_open: bool) -> Result<(), ConfigError> {
    if config.listen.ip().is_loopback() || !is_open {
        return Ok(());
    }
    Err(ConfigError(format!(
        "--listen {} is reachable from other machines: make a key with `latentd keys create`, set --api-key (or LATENTD_API_KEY), or listen on 127.0.0.1",
        config.listen
    )))
}
