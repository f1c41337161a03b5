//! The environment of this process, which no other file reads. An empty variable counts as not set: Compose and systemd set
//! one where a setting has no value.

use std::ffi::OsStr;
use std::path::PathBuf;

/// A variable, if it is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a variable is set to an empty value.
pub(crate) fn is_empty(name: &OsStr) -> bool {
    std::env::var_os(name).is_some_and(|value| value.is_empty())
}

/// The data directory where no flag names one.
pub(crate) fn default_data_dir() -> PathBuf {
    let absolute = |path: &PathBuf| path.is_absolute();
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(absolute)
        .or_else(|| std::env::home_dir().filter(absolute).map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from("latentd-data"), |data| data.join("latentd"))
}
