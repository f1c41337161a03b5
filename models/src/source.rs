//! Where a model is.

use crate::files::ModelFiles;
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

    /// What it is called unless it says so itself: the name of its directory or file.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Builtin => "mini".into(),
            Self::Directory(dir) => {
                let path = dir.canonicalize().unwrap_or_else(|_| dir.clone());
                path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
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
    /// Does its place have this word in its name? Of a hub's cache the model's name counts too.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        let dir = match self {
            Self::Directory(path) | Self::Checkpoint { file: path, .. } => path,
            Self::Builtin => return false,
        };
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let parent = dir.parent().filter(|parent| parent.ends_with(SNAPSHOTS)).and_then(Path::parent);
        [Some(dir.as_path()), parent].into_iter().flatten().any(|path| name(path).contains(word))
    }
}

impl ModelSource {
    /// A checkpoint with text encoders from a directory; other models have their own.
    #[must_use]
    pub fn with_text_encoders(self, dir: &Path) -> Self {
        match self {
            Self::Checkpoint { file, .. } => Self::Checkpoint { file, text_encoders: Some(dir.to_owned()) },
            Self::Builtin | Self::Directory(_) => self,
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

/// As the command line takes it; what belongs to a checkpoint has a flag of its own.
impl fmt::Display for ModelSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => out.write_str("mini"),
            Self::Directory(path) | Self::Checkpoint { file: path, .. } => write!(out, "{}", path.display()),
        }
    }
}
