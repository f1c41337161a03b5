//! The memory that models take, and the memory that they may take together.

use crate::config::memory::shown;
use crate::config::{ConfigError, EngineConfig, MemoryBudget, Model, ModelsError};
use crate::engine;
use crate::memory_check::published_weights;
use crate::system::free_memory;
use latentd_models::{Device, Manifest, MemoryMode, Plan, Work};

/// The free memory that is left to the activations of requests and to other programs: a share, at most so many bytes.
const RESERVE: (f64, f64) = (0.2, 2e9);

/// What a model takes as an engine loads it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// The fastest memory mode that the budget allows.
    pub(crate) mode: MemoryMode,
    /// Bytes in that mode.
    pub(crate) bytes: u64,
    /// Bytes of all its weights.
    pub(crate) whole: u64,
}

/// The fastest of an engine's memory modes in which a model takes at most `budget` bytes; the smallest if it takes more in
/// all of them.
///
/// # Errors
/// The model's files cannot be read.
pub(crate) fn size(model: &Model, engine: &EngineConfig, budget: u64) -> Result<Size, ModelsError> {
    let taken = |mode| {
        let plan = Plan::of(&model.source, &engine::load_options(engine, mode), &Work::default())?;
        Ok::<_, ModelsError>(plan.weights() + plan.loading)
    };
    let whole = taken(MemoryMode::Resident)?;
    let fastest = engine.memory_modes.fastest();
    let mut size = Size { mode: fastest, bytes: taken(fastest)?, whole };
    for mode in engine.memory_modes.iter().skip(1) {
        if size.bytes <= budget {
            break;
        }
        size = Size { mode, bytes: taken(mode)?, whole };
    }
    Ok(size)
}

/// Checks that a model is not larger than the budget.
///
/// # Errors
/// It is, or its files cannot be read.
pub(crate) fn check_model(
    model: &Model,
    engine: &EngineConfig,
    budget: MemoryBudget,
) -> Result<(), ModelsError> {
    let bytes = match budget {
        MemoryBudget::Bytes(bytes) => bytes,
        MemoryBudget::Auto => u64::MAX,
    };
    Ok(check(model.name(), size(model, engine, bytes)?.bytes, engine, budget)?)
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
    let least = published_weights(manifest, engine, engine.memory_modes.smallest());
    check(&manifest.name, least, engine, budget)
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
