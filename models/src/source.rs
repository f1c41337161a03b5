//! Where a model is.

use crate::files::{ModelFiles, SAFETY_CHECKER};
use crate::{Result, builtin};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a model is loaded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSource {
    /// The model inside the program.
    Builtin,
    /// A directory in the diffusers layout.
    Directory(PathBuf),
    /// A file in the original layout.
    Checkpoint {
        /// Transformer and VAE, maybe with text encoders.
        file: PathBuf,
        /// Directory of text encoders: files in the original layout, or the folders of the diffusers layout.
        text_encoders: Option<PathBuf>,
    },
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
            Self::Checkpoint { file, text_encoders } => {
                ModelFiles::checkpoint(file, text_encoders.as_deref())
            }
        }
    }

    /// Whether it has a safety checker of its own.
    ///
    /// # Errors
    /// As when its files are opened.
    pub fn has_safety_checker(&self) -> Result<bool> {
        Ok(self.files()?.has_folder(SAFETY_CHECKER))
    }

    /// The files that a checkpoint is read from, text encoders included, and folders in the diffusers layout; of other
    /// models nothing.
    ///
    /// # Errors
    /// As when its files are opened.
    pub fn checkpoint_locations(&self) -> Result<BTreeSet<PathBuf>> {
        match self.files()? {
            ModelFiles::Checkpoint(checkpoint) => Ok(checkpoint.locations()),
            ModelFiles::Directory(_) | ModelFiles::Embedded(_) => Ok(BTreeSet::new()),
        }
    }

    /// What it is called unless it says so itself: the name of its directory or file.
    pub fn name(&self) -> String {
        match self {
            Self::Builtin => "mini".into(),
            Self::Directory(dir) => {
                let path = dir.canonicalize().unwrap_or_else(|_| dir.clone());
                let name = of_snapshot(&path).or(path.file_name()).unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            }
            Self::Checkpoint { file, .. } => {
                file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
            }
        }
    }
}

/// The folder of a hub's cache in which the folders of a model's revisions are.
const SNAPSHOTS: &str = "snapshots";

impl ModelSource {
    /// Does its name have this word in it?
    pub(crate) fn is_called(&self, word: &str) -> bool {
        *self != Self::Builtin && self.name().to_lowercase().contains(word)
    }

    /// A checkpoint with text encoders from a directory; other models have their own.
    #[must_use]
    pub fn with_text_encoders(self, dir: &Path) -> Self {
        match self {
            Self::Checkpoint { file, .. } => Self::Checkpoint { file, text_encoders: Some(dir.to_owned()) },
            other => other,
        }
    }

    /// The directory that text encoders come from, if that is not the model's own place.
    pub fn text_encoders(&self) -> Option<&Path> {
        match self {
            Self::Checkpoint { text_encoders, .. } => text_encoders.as_deref(),
            Self::Builtin | Self::Directory(_) => None,
        }
    }
}

/// The repository's name of a directory in the Hugging Face cache, `models--OWNER--NAME/snapshots/COMMIT`.
fn of_snapshot(path: &Path) -> Option<&OsStr> {
    let snapshots = path.parent().filter(|parent| parent.ends_with(SNAPSHOTS))?;
    let folder = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
    Some(OsStr::new(folder.split_once("--").map_or(folder, |(_, name)| name)))
}

/// As the command line takes it; what belongs to a checkpoint has a flag of its own.
impl fmt::Display for ModelSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => out.write_str("mini"),
            Self::Directory(path) | Self::Checkpoint { file: path, .. } => write!(out, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_called_as_its_repository() {
        for (path, name) in [
            (
                "/c/models--stabilityai--stable-diffusion-3.5-large-turbo/snapshots/0123",
                "stable-diffusion-3.5-large-turbo",
            ),
            ("/c/models--me--a--b/snapshots/0123", "a--b"),
            ("/c/snapshots/0123", "0123"),
            ("/models/tiny", "tiny"),
        ] {
            assert_eq!(ModelSource::Directory(path.into()).name(), name);
        }
    }
}
