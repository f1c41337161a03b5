//! Where a model is.

use crate::files::ModelFiles;
use crate::safety::PART as SAFETY_CHECKER;
use crate::{Result, builtin};
use std::fmt;
use std::path::{Path, PathBuf};

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

    /// Whether it brings a safety checker of its own.
    ///
    /// # Errors
    /// As when its files are opened.
    pub fn has_safety_checker(&self) -> Result<bool> {
        Ok(self.files()?.has_folder(SAFETY_CHECKER))
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

/// The folder of a hub's cache in which the folders of a model's revisions are.
const SNAPSHOTS: &str = "snapshots";

impl ModelSource {
    /// Does its place have this word in its name? Of a hub's cache the model's name counts too.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        let Self::Directory(dir) = self else { return false };
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let parent = dir.parent().filter(|parent| parent.ends_with(SNAPSHOTS)).and_then(Path::parent);
        [Some(dir.as_path()), parent].into_iter().flatten().any(|path| name(path).contains(word))
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
