//! Secrets in files, as containers and systemd hand them over.

use super::{ConfigError, refuse};
use std::path::Path;

/// The content of the file that a flag or a variable names, without the line's end. No error has any of it.
pub(super) fn read(named_by: &str, path: &Path) -> Result<String, ConfigError> {
    let place = format!("{named_by} {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError(format!("{place}: {error}")))?;
    match text.trim() {
        "" => refuse(format!("{place}: the file is empty")),
        text if text.lines().count() > 1 => refuse(format!("{place}: the file has more than one line")),
        text => Ok(text.to_owned()),
    }
}

/// A setting that is given as it is, or in a file, but not as both.
pub(super) fn either<P: AsRef<Path>>(
    [name, file_name]: [&str; 2],
    given: Option<String>,
    file: Option<P>,
) -> Result<Option<String>, ConfigError> {
    match (given, file) {
        (Some(_), Some(_)) => refuse(format!("{name} and {file_name} are both given: give one of the two")),
        (given, None) => Ok(given),
        (None, Some(path)) => read(file_name, path.as_ref()).map(Some),
    }
}
