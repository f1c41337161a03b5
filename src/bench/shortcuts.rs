//! What a measured loop left out, for the reports: a number without this would be compared with exact ones.

use super::row;
use super::stats::short;
use latentd_models::{GuidanceInterval, Shortcuts, Skipped};
use serde::Serialize;

/// Only in the report of a loop that is not the exact one.
#[derive(Debug, Serialize)]
pub(super) struct ShortcutsJson {
    guidance_interval: Option<[f64; 2]>,
    unguided_steps: Option<usize>,
    first_block_cache: Option<f64>,
    first_block_cache_reused_steps: Option<usize>,
    /// Of the final latents, from those of the exact loop, where that ran too.
    #[serde(skip_serializing_if = "Option::is_none")]
    relative_error: Option<f64>,
}

impl ShortcutsJson {
    pub(super) fn new(of: &Shortcuts, skipped: Skipped, relative_error: Option<f64>) -> Option<Self> {
        let json = || Self {
            guidance_interval: of.guidance_interval.map(|GuidanceInterval { low, high }| [low, high]),
            unguided_steps: skipped.unguided_steps,
            first_block_cache: of.first_block_cache,
            first_block_cache_reused_steps: skipped.reused_steps,
            relative_error,
        };
        (!of.is_exact()).then(json)
    }

    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        if let (Some([low, high]), Some(steps)) = (self.guidance_interval, self.unguided_steps) {
            table += &row("interval", &format!("guided at {low} < sigma <= {high}: {steps} steps were not"));
        }
        if let (Some(threshold), Some(steps)) = (self.first_block_cache, self.first_block_cache_reused_steps)
        {
            table += &row("cache", &format!("threshold {threshold}: {steps} steps ran one block"));
        }
        if let Some(error) = self.relative_error {
            table += &row("error", &format!("{} of the exact loop's latents", short(error)));
        }
        table
    }
}
