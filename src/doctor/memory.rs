//! The memory that a model of a configuration needs: by part and by memory mode, and whether it is there.

use super::Finding;
use crate::config::{EngineConfig, Model, ServeConfig};
use crate::memory_check;
use crate::model_error::ModelError;
use crate::serve::preflight;
use crate::system::{free_memory, gigabytes};
use crate::worker::device_name;
use latentd_models::{Activations, MemoryMode, Plan, SafetyOptions, Work};

/// Bytes of common cards.
const FREE: [u64; 4] = [24_000_000_000, 16_000_000_000, 12_000_000_000, 8_000_000_000];

/// What a model needs on each device, and whether it is there.
pub(super) fn findings(config: &ServeConfig, model: &Model, safety: &SafetyOptions) -> Vec<Finding> {
    let mut findings: Vec<_> = devices(config).map(|engine| plan(config, model, engine, safety)).collect();
    findings.push(check(config, model, safety));
    findings
}

/// One engine of each device.
pub(super) fn devices(config: &ServeConfig) -> impl Iterator<Item = &EngineConfig> {
    let engines = config.engines.iter().enumerate();
    let first = engines.filter(|(index, engine)| {
        !config.engines[..*index].iter().any(|other| other.device == engine.device)
    });
    first.map(|(_, engine)| engine)
}

/// What a model needs on a device, and in which memory mode it is run there.
fn plan(config: &ServeConfig, model: &Model, engine: &EngineConfig, safety: &SafetyOptions) -> Finding {
    let work = memory_check::served(&model.source, &config.adapters);
    let planned = || {
        let mode = memory_check::choose(&model.source, engine, safety, &work)
            .unwrap_or(engine.memory_modes.smallest());
        let plan = memory_check::plan(&model.source, (engine, mode), safety, &work)?;
        Ok::<_, ModelError>((mode, plan, modes(model, engine, safety, &work)?))
    };
    match planned() {
        Ok((mode, plan, modes)) => {
            let place = format!(
                "{} in {} on {}, memory mode {}",
                model.source,
                engine.dtype.name(),
                device_name(engine.device),
                mode.name()
            );
            Finding::good("memory plan", format!("{place}\n{}\n{modes}", parts(&plan, &work)))
        }
        Err(error) => Finding::error("memory plan", &error),
    }
}

/// What each memory mode needs, and which one `auto` takes of so much free memory.
fn modes(
    model: &Model,
    engine: &EngineConfig,
    safety: &SafetyOptions,
    work: &Work,
) -> Result<String, ModelError> {
    let needs = MemoryMode::ALL.map(|mode| {
        Ok::<_, ModelError>((mode, memory_check::peak(&model.source, (engine, mode), safety, work)?))
    });
    let needs = needs.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut lines = vec!["memory modes".to_owned()];
    lines.extend(needs.iter().map(|(mode, bytes)| format!("  {:<16} {:>9}", mode.name(), gigabytes(*bytes))));
    lines.push("auto takes, where so much is free".to_owned());
    lines.extend(FREE.iter().map(|free| {
        let taken = needs.iter().find(|(_, bytes)| bytes <= free);
        let taken = taken.map_or("none of them", |(mode, _)| mode.name());
        format!("  {:<16} {:>9}", gigabytes(*free), taken)
    }));
    Ok(lines.join("\n"))
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
fn check(config: &ServeConfig, model: &Model, safety: &SafetyOptions) -> Finding {
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
