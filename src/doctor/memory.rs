//! What the model needs, part by part, and whether there is room for it.

use super::Finding;
use crate::checker;
use crate::config::{EngineConfig, HubConfig, SafetyConfig};
use crate::hub_models;
use crate::machine::{free_memory, gigabytes};
use crate::room;
use crate::worker::device_name;
use latentd_models::{Activations, Plan, SafetyOptions, SafetySource, Work};

/// The model that `serve` would run: its safety checker, what it needs, and whether there is room for it.
pub(super) fn model(mut engine: EngineConfig, safety: &SafetyConfig, hub: &HubConfig) -> Vec<Finding> {
    match hub_models::is_cached(hub, &mut engine.model) {
        Ok(true) => {}
        Ok(false) => {
            let advice = format!("`serve` pulls it, as `latentd models pull {}` does", engine.model);
            return vec![Finding::warning("model", format!("{} is not here", engine.model), advice)];
        }
        Err(error) => return vec![Finding::error("model", &error)],
    }
    match checker::resolve(safety, hub, &engine.model) {
        Ok(options) => {
            let mut findings = vec![Finding::good("safety checker", checker::describe(&options))];
            findings.extend(plan(&engine, &options));
            findings
        }
        Err(error) => {
            let unchecked = SafetyOptions { source: SafetySource::Disabled, threshold: None, forced: false };
            let mut findings = vec![Finding::error("safety checker", &error)];
            findings.extend(plan(&engine, &unchecked));
            findings
        }
    }
}

fn plan(engine: &EngineConfig, safety: &SafetyOptions) -> Vec<Finding> {
    let work = Work::default();
    let plan = match room::plan(engine, safety, &work) {
        Ok(plan) => plan,
        Err(error) => return vec![Finding::error("model", &error)],
    };
    let place = format!("{} in {} on {}", engine.model, engine.dtype.name(), device_name(engine.device));
    let mut findings = vec![Finding::good("memory plan", format!("{place}\n{}", parts(&plan, &work)))];
    findings.push(room(engine, safety, &work, &plan));
    findings
}

/// A line for each part, with its parameters and bytes.
fn parts(plan: &Plan, work: &Work) -> String {
    let line = |name: &str, bytes: u64, note: String| {
        format!("{name:<18} {:>9}{}{note}", gigabytes(bytes), if note.is_empty() { "" } else { "  " })
    };
    let millions = |parameters: u64| format!("{:.1} million parameters", parameters as f64 / 1e6);
    let mut lines: Vec<_> =
        plan.parts.iter().map(|part| line(part.name, part.bytes, millions(part.parameters))).collect();
    let Activations { text, init_image, denoise, decode } = plan.activations;
    let largest = [("text", text), ("initial image", init_image), ("denoise", denoise), ("decode", decode)];
    let largest = largest.into_iter().max_by_key(|(_, bytes)| *bytes).map_or("", |(name, _)| name);
    let note = format!("{}x{}, most in {largest}", work.width, work.height);
    lines.push(line("generating", plan.generating(), note));
    lines.push(line("process", plan.process, String::new()));
    lines.push(line("together", plan.peak(), String::new()));
    lines.join("\n")
}

fn room(engine: &EngineConfig, safety: &SafetyOptions, work: &Work, plan: &Plan) -> Finding {
    let Some(free) = free_memory(engine.device) else {
        return Finding::warning(
            "room",
            "free memory is unknown",
            "nothing is checked before the model is loaded",
        );
    };
    match room::refusal(engine, safety, work, (free, 1)) {
        Ok(None) => {
            Finding::good("room", format!("{} free, {} needed", gigabytes(free), gigabytes(plan.peak())))
        }
        Ok(Some(line)) if engine.memory_check => Finding::error("room", &line),
        Ok(Some(line)) => Finding::warning("room", line, "it is not checked: --memory-check is off"),
        Err(error) => Finding::error("room", &error),
    }
}
