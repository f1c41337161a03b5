//! What `--step-timeout` means.

use super::{ConfigError, refuse};
use std::time::Duration;

/// How long the engine may be silent; `None`: by what it does.
pub(super) fn step(text: &str) -> Result<Option<Duration>, ConfigError> {
    match text.trim() {
        "auto" => Ok(None),
        text => match text.parse() {
            Ok(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds))),
            _ => refuse(format!("--step-timeout {text}: give `auto` or a number of seconds")),
        },
    }
}
