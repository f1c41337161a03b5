//! Where a model's files come from: a directory, bytes inside the executable, or a checkpoint that stands for one.

use crate::checkpoint::{Checkpoint, StoredPart};
use crate::content::{Content, Directory};
use crate::{Error, Result};
use std::borrow::Cow;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Most bytes of a file that is read whole: a config, a vocabulary, an index. The largest real one, T5's
/// `tokenizer.json`, has 2.4 MB.
const SMALL: u64 = 32 << 20;

/// Where a model keeps a safety checker of its own.
pub(crate) const SAFETY_CHECKER: &str = "safety_checker";

/// A directory in the diffusers layout, on disk, embedded, or what a checkpoint would be as one. Paths use `/`.
#[derive(Debug, Clone)]
pub(crate) enum ModelFiles {
    Directory(Directory),
    Embedded(&'static [(&'static str, &'static [u8])]),
    Checkpoint(Arc<Checkpoint>),
}

impl ModelFiles {
    /// Opens a directory, refusing early what is clearly not a diffusers layout.
    pub(crate) fn directory(dir: &Path) -> Result<Self> {
        if dir.join("model_index.json").is_file() {
            return Ok(Self::Directory(Directory::new(dir)));
        }
        let what = if dir.is_dir() { "has no model_index.json" } else { "is not a directory" };
        Err(Error::Model(format!(
            "{} {what}: give a directory in the diffusers layout (model_index.json, transformer/, vae/, …)",
            dir.display()
        )))
    }

    /// Opens a file in the original layout.
    pub(crate) fn checkpoint(file: &Path, text_encoders: Option<&Path>) -> Result<Self> {
        Ok(Self::Checkpoint(Arc::new(Checkpoint::new(file, text_encoders)?)))
    }

    /// Whether there is anything of this name; [`Self::open`] says what is wrong with it.
    pub(crate) fn exists(&self, path: &str) -> bool {
        match self {
            Self::Directory(dir) => dir.exists(path),
            Self::Embedded(files) => files.iter().any(|(name, _)| *name == path),
            Self::Checkpoint(checkpoint) => checkpoint.exists(path),
        }
    }

    pub(crate) fn has_folder(&self, path: &str) -> bool {
        match self {
            Self::Directory(dir) => dir.has_folder(path),
            Self::Embedded(files) => files.iter().any(|(name, _)| Path::new(name).starts_with(path)),
            Self::Checkpoint(checkpoint) => checkpoint.has_folder(path),
        }
    }

    /// The part of a checkpoint that the diffusers layout has in this folder, if a file in the original layout has it.
    pub(crate) fn stored_part(&self, folder: &str) -> Option<&StoredPart> {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.stored_part(folder),
            Self::Directory(_) | Self::Embedded(_) => None,
        }
    }

    /// The whole file. For small ones; of weights [`crate::weights`] reads parts.
    ///
    /// # Errors
    /// There is no such file, it is none, or it is too long to be what it claims.
    pub(crate) fn read(&self, path: &str) -> Result<Cow<'static, [u8]>> {
        match self.open(path)? {
            Content::Bytes(bytes) => Ok(bytes),
            Content::File(_, bytes) if bytes > SMALL => Err(Error::Model(format!(
                "{} has {bytes} bytes, and latentd reads at most {SMALL} of such a file: replace it by the model's own",
                self.display(path)
            ))),
            Content::File(file, bytes) => {
                let mut all = Vec::with_capacity(bytes as usize);
                match file.take(SMALL).read_to_end(&mut all) {
                    Ok(_) => Ok(Cow::Owned(all)),
                    Err(reason) => Err(Error::Io { path: self.display(path).into(), reason }),
                }
            }
        }
    }

    /// Opens a file without reading it. What is no regular file is not even opened: that could wait for ever.
    ///
    /// # Errors
    /// There is no such file, or it is none.
    pub(crate) fn open(&self, path: &str) -> Result<Content> {
        match self {
            Self::Directory(dir) => dir.open(path),
            Self::Embedded(files) => files
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, bytes)| Content::Bytes(Cow::Borrowed(*bytes)))
                .ok_or_else(|| Error::Model(format!("{} is missing", self.display(path)))),
            Self::Checkpoint(checkpoint) => checkpoint.open(path),
        }
    }

    /// A path as users know it, for messages.
    pub(crate) fn display(&self, path: &str) -> String {
        match self {
            Self::Directory(dir) => dir.display(path),
            Self::Embedded(_) => format!("(built-in model)/{path}"),
            Self::Checkpoint(checkpoint) => checkpoint.display(path),
        }
    }
}
