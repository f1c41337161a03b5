//! The ControlNet of a request: where its files and its control image are, and how it is applied.

use crate::{AdapterSource, Source};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Permitted scale of a ControlNet.
pub const CONTROL_SCALE: RangeInclusive<f64> = 0.0..=2.0;
/// Permitted shares of the steps at which a ControlNet begins and ends.
pub const CONTROL_SHARE: RangeInclusive<f64> = 0.0..=1.0;

/// A ControlNet of a request. The worker fetches its files and its image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlNetRef {
    /// What the client called it, shortened and without what may be secret, for messages.
    pub name: String,
    /// Where it is.
    pub source: AdapterSource,
    /// Where the control image is.
    pub image: Source,
    /// What its outputs are multiplied by.
    pub scale: f64,
    /// The share of the steps after which it begins.
    pub start: f64,
    /// The share of the steps after which it ends.
    pub end: f64,
    /// The generated images get the size of the control image, scaled down where it exceeds the request's size.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_size: bool,
}
