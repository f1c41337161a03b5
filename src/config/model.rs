//! `--model`: which model is meant.

use super::{ConfigError, refuse};
use latentd_models::ModelSource;
use std::path::Path;

/// The place of the model that `--model` names.
pub(super) fn source(text: &str) -> Result<ModelSource, ConfigError> {
    if text == "mini" {
        return Ok(ModelSource::Builtin);
    }
    let path = Path::new(text);
    if path.is_dir() {
        return match std::path::absolute(path) {
            Ok(path) => Ok(ModelSource::Directory(path)),
            Err(error) => refuse(format!("--model {text}: {error}")),
        };
    }
    refuse(format!(
        "--model {text}: this version runs `mini` (built in) or a directory in the diffusers layout, and there is no such directory"
    ))
}
