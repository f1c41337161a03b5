//! Where a model's files come from: a directory, or bytes inside the executable.

use crate::{Error, Result};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// A directory in the diffusers layout, on disk or embedded. Paths use `/`.
#[derive(Debug, Clone)]
pub(crate) enum ModelFiles {
    Directory(PathBuf),
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl ModelFiles {
    /// Opens a directory, refusing early what is clearly not a diffusers layout.
    pub(crate) fn directory(dir: &Path) -> Result<Self> {
        if dir.join("model_index.json").is_file() {
            return Ok(Self::Directory(dir.to_path_buf()));
        }
        let what = if dir.is_dir() { "has no model_index.json" } else { "is not a directory" };
        Err(Error::Model(format!(
            "{} {what}: give a directory in the diffusers layout (model_index.json, transformer/, vae/, …)",
            dir.display()
        )))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        match self {
            Self::Directory(dir) => dir.join(path).is_file(),
            Self::Embedded(files) => files.iter().any(|(name, _)| *name == path),
        }
    }

    pub(crate) fn has_folder(&self, path: &str) -> bool {
        match self {
            Self::Directory(dir) => dir.join(path).is_dir(),
            Self::Embedded(files) => files.iter().any(|(name, _)| Path::new(name).starts_with(path)),
        }
    }

    /// The whole file. For small ones; weights are mapped by [`crate::weights`].
    pub(crate) fn read(&self, path: &str) -> Result<Cow<'static, [u8]>> {
        match self {
            Self::Directory(dir) => {
                let path = dir.join(path);
                std::fs::read(&path).map(Cow::Owned).map_err(|source| Error::Io { path, source })
            }
            Self::Embedded(files) => files
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, bytes)| Cow::Borrowed(*bytes))
                .ok_or_else(|| Error::Model(format!("{} is missing", self.display(path)))),
        }
    }

    /// A path as users know it, for messages.
    pub(crate) fn display(&self, path: &str) -> String {
        match self {
            Self::Directory(dir) => dir.join(path).display().to_string(),
            Self::Embedded(_) => format!("(built-in model)/{path}"),
        }
    }
}
