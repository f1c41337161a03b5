//! The memory that models take, and the memory that they may take together.

use crate::config::memory::shown;
use crate::config::{ConfigError, EngineConfig, MemoryBudget, Model, ModelsError};
use crate::engine;
use crate::memory_check::published_weights;
use crate::system::free_memory;
use latentd_models::{Device, Manifest, Plan, Work};

/// The free memory that is left to the activations of requests and to other programs: a share, at most so many bytes.
const RESERVE: (f64, f64) = (0.2, 2e9);

/// Bytes that each model takes as an engine loads it.
///
/// # Errors
/// A model is larger than a budget in bytes, or its files cannot be read.
pub(crate) fn sizes(
    models: &[Model],
    engine: &EngineConfig,
    budget: MemoryBudget,
) -> Result<Vec<u64>, ModelsError> {
    models.iter().map(|model| size(model, engine, budget)).collect()
}

/// The same of one model.
pub(crate) fn size(model: &Model, engine: &EngineConfig, budget: MemoryBudget) -> Result<u64, ModelsError> {
    let plan = Plan::of(&model.source, &engine::load_options(engine), &Work::default())?;
    let needed = plan.weights() + plan.loading;
    check(model.name(), needed, engine, budget)?;
    Ok(needed)
}

/// Checks, before a published model is downloaded, that its weights are not larger than the budget.
///
/// # Errors
/// They are.
pub(crate) fn check_published(
    manifest: &Manifest,
    engine: &EngineConfig,
    budget: MemoryBudget,
) -> Result<(), ConfigError> {
    check(&manifest.name, published_weights(manifest, engine), engine, budget)
}

fn check(name: &str, needed: u64, engine: &EngineConfig, budget: MemoryBudget) -> Result<(), ConfigError> {
    match budget {
        MemoryBudget::Bytes(budget) if needed > budget => Err(ConfigError(format!(
            "{name} takes {} in {} and --memory-budget is {}: give more, another --dtype, or leave the model out",
            shown(needed),
            engine.dtype.name(),
            shown(budget)
        ))),
        _ => Ok(()),
    }
}

/// Bytes for the models of one of `sharers` workers on a device; `None` where the free memory is not known.
pub(crate) fn bytes(budget: MemoryBudget, device: Device, sharers: usize) -> Option<u64> {
    match budget {
        MemoryBudget::Bytes(bytes) => Some(bytes),
        MemoryBudget::Auto => {
            let free = free_memory(device)? as f64;
            Some((free - (free * RESERVE.0).min(RESERVE.1)) as u64 / sharers.max(1) as u64)
        }
    }
}
