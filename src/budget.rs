//! What models take in memory, and what they may take together.

use crate::config::memory::shown;
use crate::config::{ConfigError, EngineConfig, MemoryBudget, Model, ModelsError};
use crate::engine;
use crate::machine::free_memory;
use latentd_models::{Device, Plan, Work};

/// Of the memory that is free so much is left to pictures in work and to other programs: a share, and at most so many
/// bytes.
const RESERVE: (f64, f64) = (0.2, 2e9);

/// Bytes that each model takes as an engine loads it.
///
/// # Errors
/// A model is larger than a budget that was named, or cannot be looked at.
pub(crate) fn sizes(
    models: &[Model],
    engine: &EngineConfig,
    budget: MemoryBudget,
) -> Result<Vec<u64>, ModelsError> {
    models.iter().map(|model| size(model, engine, budget)).collect()
}

fn size(model: &Model, engine: &EngineConfig, budget: MemoryBudget) -> Result<u64, ModelsError> {
    let plan = Plan::of(&model.source, &engine::load_options(engine), &Work::default())?;
    let needed = plan.weights() + plan.loading;
    match budget {
        MemoryBudget::Bytes(budget) if needed > budget => {
            let (name, dtype) = (model.name(), engine.dtype.name());
            let words = format!(
                "{name} takes {} in {dtype} and --memory-budget is {}: give more, another --dtype, or leave the model out",
                shown(needed),
                shown(budget)
            );
            Err(ConfigError(words).into())
        }
        _ => Ok(needed),
    }
}

/// Bytes for the models of one of `sharers` workers on a device; `None` where nobody knows what is free.
pub(crate) fn bytes(budget: MemoryBudget, device: Device, sharers: usize) -> Option<u64> {
    match budget {
        MemoryBudget::Bytes(bytes) => Some(bytes),
        MemoryBudget::Auto => {
            let free = free_memory(device)? as f64;
            Some((free - (free * RESERVE.0).min(RESERVE.1)) as u64 / sharers.max(1) as u64)
        }
    }
}
