//! Files before anything is known of what is in them: a directory of them, and an open one.

use crate::{Error, Result};
use rustix::fs::{Advice, fadvise};
use std::borrow::Cow;
use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A directory on disk. Paths inside it use `/`.
#[derive(Debug, Clone)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether there is anything of this name; [`Self::open`] says what is wrong with it.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.0.join(path).symlink_metadata().is_ok()
    }

    pub(crate) fn has_folder(&self, path: &str) -> bool {
        self.0.join(path).is_dir()
    }

    /// As [`Content::open`].
    pub(crate) fn open(&self, path: &str) -> Result<Content> {
        Content::open(&self.0.join(path))
    }

    /// A path inside it, for messages.
    pub(crate) fn display(&self, path: &str) -> String {
        self.0.join(path).display().to_string()
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

    /// Has the system read these bytes into its page cache, if it can.
    pub(crate) fn will_read(&self, at: u64, bytes: u64) {
        if let (Self::File(file, _), Some(bytes)) = (self, NonZeroU64::new(bytes)) {
            // Advice: what it does not do is done when the bytes are read.
            let _ = fadvise(file, at, Some(bytes), Advice::WillNeed);
        }
    }
}

/// A file in a state: one that was written anew is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    path: PathBuf,
    bytes: u64,
    inode: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    /// `None` if there is no such file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = path.metadata().ok()?;
        let modified = (found.mtime(), found.mtime_nsec());
        Some(Self { path: path.to_owned(), bytes: found.len(), inode: found.ino(), modified })
    }
}
