//! The IP-Adapter of a request: where its files and its image prompt are, and how strong it is.

use crate::{AdapterSource, Source};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Permitted scale of an IP-Adapter.
pub const IP_ADAPTER_SCALE: RangeInclusive<f64> = 0.0..=4.0;

/// An IP-Adapter of a request. The worker fetches its files and its image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IpAdapterRef {
    /// What the client called it, shortened and without what may be secret, for messages.
    pub name: String,
    /// Where it is.
    pub source: AdapterSource,
    /// What the client called its image encoder, likewise.
    pub encoder_name: String,
    /// Where that is: on the hub, or the operator's.
    pub encoder: AdapterSource,
    /// Where the image prompt is.
    pub image: Source,
    /// What its attentions' outputs are multiplied by.
    pub scale: f64,
}
