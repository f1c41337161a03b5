//! How many calls were refused before anything was accepted, and why.

use crate::output::barred::Barred;
use crate::output::error::ApiError;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a request was refused before it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Refused {
    reason: &'static str,
}

/// What this process counts by itself.
#[derive(Default)]
pub struct Refusals {
    pub(crate) counted: Family<Refused, Counter>,
    /// A refused page or host name was logged: the first is enough, and pages could fill the log.
    is_warned: AtomicBool,
}

impl Refusals {
    /// Counts an error that keeps a request out.
    pub(crate) fn count(&self, error: &ApiError) {
        if let Some(reason) = error.refusal() {
            self.counted.get_or_create(&Refused { reason }).inc();
        }
    }

    /// Logs the first call that a server without keys refused.
    pub(crate) fn warn_once(&self, barred: &Barred) {
        if !self.is_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("a call was refused, and others will be without a line here: {barred}");
        }
    }
}
