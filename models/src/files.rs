//! Where a model's files come from: a directory, bytes inside the executable, or a checkpoint that stands for one.

use crate::checkpoint::Checkpoint;
use crate::{Error, Result};
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes of a file that is read whole: a config, a vocabulary, an index. The largest real one, T5's
/// `tokenizer.json`, has 2.4 MB.
const SMALL: u64 = 32 << 20;

/// A directory in the diffusers layout, on disk, embedded, or what a checkpoint would be as one. Paths use `/`.
#[derive(Debug, Clone)]
pub(crate) enum ModelFiles {
    Directory(PathBuf),
    Embedded(&'static [(&'static str, &'static [u8])]),
    Checkpoint(Arc<Checkpoint>),
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

    /// Opens a file in the original layout.
    pub(crate) fn checkpoint(file: &Path, text_encoders: Option<&Path>) -> Result<Self> {
        Ok(Self::Checkpoint(Arc::new(Checkpoint::new(file, text_encoders)?)))
    }

    /// Whether there is anything of this name; [`Self::open`] says what is wrong with it.
    pub(crate) fn exists(&self, path: &str) -> bool {
        match self {
            Self::Directory(dir) => dir.join(path).symlink_metadata().is_ok(),
            Self::Embedded(files) => files.iter().any(|(name, _)| *name == path),
            Self::Checkpoint(checkpoint) => checkpoint.exists(path),
        }
    }

    pub(crate) fn has_folder(&self, path: &str) -> bool {
        match self {
            Self::Directory(dir) => dir.join(path).is_dir(),
            Self::Embedded(files) => files.iter().any(|(name, _)| Path::new(name).starts_with(path)),
            Self::Checkpoint(checkpoint) => checkpoint.has_folder(path),
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
            Self::Directory(dir) => Content::open(&dir.join(path)),
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
            Self::Directory(dir) => dir.join(path).display().to_string(),
            Self::Embedded(_) => format!("(built-in model)/{path}"),
            Self::Checkpoint(checkpoint) => checkpoint.display(path),
        }
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) enum Content {
    /// With its length in bytes when it was opened.
    File(File, u64),
    Bytes(Cow<'static, [u8]>),
}

impl Content {
    /// Opens a file on disk, if it is a regular one or leads to one.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let unreadable = |reason| Error::Io { path: path.to_path_buf(), reason };
        let found = path.metadata().map_err(unreadable)?;
        if !found.is_file() {
            let what = if found.is_dir() { "a directory" } else { "a device, a pipe or a socket" };
            return Err(Error::Model(format!("{} is {what}: there must be a file", path.display())));
        }
        let file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        Ok(Self::File(file, bytes))
    }

    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File(_, bytes) => *bytes,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `into` with the bytes from `at` on; any number of threads may read at the same time.
    ///
    /// # Errors
    /// The device failed, or the file ends before `into` is full.
    pub(crate) fn read_at(&self, at: u64, into: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::File(file, _) => file.read_exact_at(into, at),
            Self::Bytes(bytes) => {
                let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..into.len()));
                into.copy_from_slice(from.ok_or(std::io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}
