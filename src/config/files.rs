//! Where files are stored: `--storage` and the variables of a bucket.

use super::{ConfigError, refuse};
use crate::storage::{Location, S3Location, SCHEME};
use std::path::Path;

/// Folder, in the data directory, of the parts of uploads that are on their way to a bucket.
const SPOOL: &str = "spool";

/// Reads the flag; `variable` is a variable of the environment, if it is set and not empty.
pub(super) fn parse(
    text: Option<&str>,
    data_dir: &Path,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Location, ConfigError> {
    let Some(text) = text else { return Ok(Location::Directory(data_dir.join("files"))) };
    if text.starts_with(SCHEME) {
        let bucket = S3Location::parse(text, data_dir.join(SPOOL), variable);
        return bucket.map(Location::S3).map_err(|why| ConfigError(format!("--storage {text}: {why}")));
    }
    let path = text.strip_prefix("file://").unwrap_or(text);
    if path.is_empty() || path.contains("://") {
        return refuse(format!("--storage {text}: give a directory or s3://BUCKET/PREFIX"));
    }
    let path = std::path::absolute(path);
    path.map(Location::Directory).map_err(|error| ConfigError(format!("--storage {text}: {error}")))
}
