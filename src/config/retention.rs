//! The flags that say how long finished requests are kept.

use crate::args::RetentionArgs;
use std::time::Duration;

/// How long finished requests are kept; `None`: for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepConfig {
    /// How many.
    pub requests: Option<u64>,
    /// How long each.
    pub age: Option<Duration>,
    /// How long the log of each.
    pub log_age: Option<Duration>,
}

impl KeepConfig {
    pub(super) fn of(args: &RetentionArgs) -> Self {
        let days = |days: u64| (days > 0).then(|| Duration::from_secs(days.saturating_mul(86_400)));
        Self {
            requests: (args.keep_requests > 0).then_some(args.keep_requests),
            age: days(args.keep_days),
            log_age: days(args.keep_log_days),
        }
    }
}
