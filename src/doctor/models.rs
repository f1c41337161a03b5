//! The models of a configuration: whether they are here, their safety checkers, and whether they fit into memory.

use super::Finding;
use crate::checker;
use crate::config::{EngineConfig, Model, ModelLocation, NamedModel, ServeConfig};
use crate::memory_check::{self, published_weights};
use crate::serve::{ServeError, preflight};
use crate::system::{free_memory, gigabytes};
use crate::worker::device_name;
use latentd_models::{Activations, Manifest, Plan, SafetyOptions, SafetySource, Work};
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
    findings.extend(devices(config).map(|engine| {
        let place = format!("{source} in {} on {}", engine.dtype.name(), device_name(engine.device));
        let weights = gigabytes(published_weights(manifest, engine));
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
    findings.extend(devices(config).map(|engine| plan(config, model, engine, &safety)));
    findings.push(memory(config, model, &safety));
    findings
}

/// One engine of each device.
fn devices(config: &ServeConfig) -> impl Iterator<Item = &EngineConfig> {
    let engines = config.engines.iter().enumerate();
    let first = engines.filter(|(index, engine)| {
        !config.engines[..*index].iter().any(|other| other.device == engine.device)
    });
    first.map(|(_, engine)| engine)
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

fn plan(config: &ServeConfig, model: &Model, engine: &EngineConfig, safety: &SafetyOptions) -> Finding {
    let work = memory_check::served(&model.source, &config.adapters);
    match memory_check::plan(&model.source, engine, safety, &work) {
        Ok(plan) => {
            let place =
                format!("{} in {} on {}", model.source, engine.dtype.name(), device_name(engine.device));
            Finding::good("memory plan", format!("{place}\n{}", parts(&plan, &work)))
        }
        Err(error) => Finding::error("memory plan", &error),
    }
}

/// A line for each part, with its parameters and bytes.
fn parts(plan: &Plan, work: &Work) -> String {
    let line = |name: &str, bytes: u64, note: String| {
        format!("{name:<18} {:>9}{}{note}", gigabytes(bytes), if note.is_empty() { "" } else { "  " })
    };
    let millions = |parameters: u64| format!("{:.1} million parameters", parameters as f64 / 1e6);
    let mut lines: Vec<_> =
        plan.parts.iter().map(|part| line(part.name, part.bytes, millions(part.parameters))).collect();
    let Activations { text, init_image, denoise, decode, decode_in_tiles: _ } = plan.activations;
    let largest = [("text", text), ("initial image", init_image), ("denoise", denoise), ("decode", decode)];
    let largest = largest.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("", |(name, _)| name);
    let note = format!("{}x{}, most in {largest}", work.width, work.height);
    lines.push(line(
        "activations",
        plan.generating() - plan.adapters - plan.controlnet - plan.ip_adapter,
        note,
    ));
    lines.push(line("LoRA adapters", plan.adapters, "of requests, at most".into()));
    if plan.controlnet > 0 {
        lines.push(line("ControlNet", plan.controlnet, "the largest that is named".into()));
    }
    if plan.ip_adapter > 0 {
        lines.push(line(
            "IP-Adapter",
            plan.ip_adapter,
            "the largest that is named, with its image encoder".into(),
        ));
    }
    lines.push(line("process", plan.process, String::new()));
    lines.push(line("together", plan.peak(), String::new()));
    lines.join("\n")
}

/// Whether a model fits into the memory of every engine.
fn memory(config: &ServeConfig, model: &Model, safety: &SafetyOptions) -> Finding {
    let about = "memory check";
    if devices(config).any(|engine| free_memory(engine.device).is_none()) {
        return Finding::warning(
            about,
            "free memory is unknown",
            "nothing is checked before the model is loaded",
        );
    }
    if let Err(error) = preflight::check_memory(config, model, safety) {
        return Finding::error(about, &error);
    }
    let engines = config.engines.iter().cloned();
    let checked: Vec<_> = engines.map(|engine| EngineConfig { memory_check: true, ..engine }).collect();
    let work = &memory_check::served(&model.source, &config.adapters);
    match memory_check::check(&model.source, &checked, safety, work) {
        Ok(()) if memory_check::check_whole(&model.source, &checked, safety, work).is_err() => {
            let found = format!("{} fits only with images that are decoded in tiles", model.source);
            Finding::warning(about, found, "they are, whenever memory runs out, and look about the same")
        }
        Ok(()) => Finding::good(about, format!("{} fits", model.source)),
        Err(error) => Finding::warning(about, error.to_string(), "it is not refused: --memory-check is off"),
    }
}
