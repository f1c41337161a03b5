//! The models of a configuration: whether they are here, their safety checkers, and whether they fit into memory.

use super::{Finding, memory};
use crate::checker;
use crate::config::{Model, ModelLocation, NamedModel, ServeConfig};
use crate::memory_check::published_weights;
use crate::serve::{ServeError, preflight};
use crate::system::gigabytes;
use crate::worker::device_name;
use latentd_models::{Manifest, SafetyOptions, SafetySource};
use std::path::Path;

/// Every model that `serve` would run, judged as `serve` judges it.
pub(super) fn all(config: &ServeConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut located = Vec::new();
    for named in &config.models {
        match preflight::locate(config, named) {
            Ok(model) => located.push((named, model)),
            Err(error) => findings.push(Finding::error("model", &error)),
        }
    }
    let sources: Vec<NamedModel> = located.iter().map(|(_, model)| model.clone()).collect();
    let models = preflight::assign(&sources);
    let models = models.map_err(|error| findings.push(Finding::error("model", &error))).unwrap_or_default();
    for (_, model) in located.iter().filter(|(_, model)| model.location.local().is_none()) {
        findings.extend(download(config, model));
    }
    for model in &models {
        let named = located.iter().filter(|(_, found)| found.location.local() == Some(&model.source));
        findings.extend(named.take(1).flat_map(|(named, _)| local(config, &named.location, model)));
    }
    findings.extend(config.adapters.named.iter().map(|(name, path)| {
        let checked = preflight::check_adapter(config, &models, name, path);
        adapter("LoRA adapter", checked, &models, (name, path))
    }));
    findings.extend(config.adapters.controlnets.iter().map(|(name, path)| {
        let checked = preflight::check_named_controlnet(&models, name, path);
        adapter("ControlNet", checked, &models, (name, path))
    }));
    findings.extend(config.adapters.ip_adapters.iter().map(|(name, path)| {
        let checked = preflight::check_named_ip_adapter(&models, name, path);
        adapter("IP-Adapter", checked, &models, (name, path))
    }));
    findings
}

/// A model that `serve` downloads first, judged by its manifest if it is a published one.
fn download(config: &ServeConfig, model: &NamedModel) -> Vec<Finding> {
    let source = &model.location;
    let advice = format!("`serve` pulls it, as `latentd models pull {source}` does");
    let mut findings = vec![Finding::warning("model", format!("{source} is not in the cache"), advice)];
    let Some(manifest) = preflight::to_download(model) else { return findings };
    findings.extend(memory::devices(config).map(|engine| {
        let place = format!("{source} in {} on {}", engine.dtype.name(), device_name(engine.device));
        let weights = gigabytes(published_weights(manifest, engine, engine.memory_modes.fastest()));
        Finding::good("memory plan", format!("{place}\nweights of {weights} at least"))
    }));
    findings.push(match preflight::check_download(config, manifest) {
        Ok(()) => Finding::good("download", disk_plan(config, manifest)),
        Err(error) => Finding::error("download", &error),
    });
    findings
}

fn disk_plan(config: &ServeConfig, manifest: &Manifest) -> String {
    let bytes = manifest.files.values().sum::<u64>();
    let cached = latentd_hub::cached_bytes(&config.hub, &manifest.repository).min(bytes);
    format!("about {}, of which the cache has {}", gigabytes(bytes), gigabytes(cached))
}

/// A model whose files are here; `named` is how the command line names it.
fn local(config: &ServeConfig, named: &ModelLocation, model: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.engines.is_empty() {
        let found = format!("{}: no worker runs here", model.source);
        return vec![Finding::good("model", found)];
    }
    findings
        .extend(preflight::check_budget(config, model).err().map(|error| Finding::error("model", &error)));
    let unchecked = SafetyOptions { source: SafetySource::Disabled, threshold: None, forced: false };
    let safety = match checker::pending_download(&config.hub, &config.safety, named, &model.source) {
        Ok(Some(manifest)) => {
            let advice = format!("`serve` pulls it, as `latentd models pull {}` does", manifest.name);
            findings.push(Finding::warning(
                "safety checker",
                format!("{} is not in the cache", manifest.name),
                advice,
            ));
            unchecked
        }
        Ok(None) | Err(_) => match preflight::safety(config, model) {
            Ok(safety) => {
                findings.push(Finding::good("safety checker", checker::describe(&safety)));
                safety
            }
            Err(error) => {
                findings.push(Finding::error("safety checker", &error));
                unchecked
            }
        },
    };
    findings.extend(memory::findings(config, model, &safety));
    findings
}

/// An adapter or another network that the operator names.
fn adapter(
    about: &'static str,
    checked: Result<(), ServeError>,
    models: &[Model],
    (name, path): (&str, &Path),
) -> Finding {
    match checked {
        Ok(()) if models.is_empty() => Finding::warning(
            about,
            format!("{name} is not checked"),
            "no model is here yet, `serve` checks it",
        ),
        Ok(()) => Finding::good(about, format!("{name} is {}", path.display())),
        Err(error) => Finding::error(about, &error),
    }
}
