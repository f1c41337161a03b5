//! Where a model is.

use crate::files::ModelFiles;
use crate::{Result, builtin};
use std::fmt;
use std::path::PathBuf;

/// What a model is loaded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// The model inside the program.
    Builtin,
    /// A directory in the diffusers layout.
    Directory(PathBuf),
}

impl ModelSource {
    /// Its files.
    ///
    /// # Errors
    /// It is clearly no model, or this build has no built-in one.
    pub(crate) fn files(&self) -> Result<ModelFiles> {
        match self {
            Self::Builtin => builtin::files(),
            Self::Directory(dir) => ModelFiles::directory(dir),
        }
    }

    /// What it is called unless it says so itself: the name of its directory.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Builtin => "mini".into(),
            Self::Directory(dir) => {
                let path = dir.canonicalize().unwrap_or_else(|_| dir.clone());
                path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
            }
        }
    }
}

/// As the command line takes it.
impl fmt::Display for ModelSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => out.write_str("mini"),
            Self::Directory(dir) => write!(out, "{}", dir.display()),
        }
    }
}
