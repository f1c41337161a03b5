//! Skip-layer guidance of a request: what a further branch leaves out, and how strongly the images are led away from it.

use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Most layers that a request may name.
pub const MAX_SKIPPED_LAYERS: usize = 64;
/// Permitted scale of skip-layer guidance.
pub const SKIP_SCALE: RangeInclusive<f64> = 0.0..=20.0;
/// Permitted shares of the steps at which skip-layer guidance begins and ends.
pub const SKIP_SHARE: RangeInclusive<f64> = 0.0..=1.0;

/// Skip-layer guidance. The request has a guidance above 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkipLayers {
    /// Blocks of the transformer that the further branch leaves out, from 0; at least one.
    pub layers: Vec<usize>,
    /// What the difference from that branch is multiplied by.
    pub scale: f64,
    /// The share of the steps after which it begins.
    pub start: f64,
    /// The share of the steps before which it ends.
    pub stop: f64,
}
