//! A file of an adapter that stays where it is while a request uses it.

use super::partial::{Partial, is_locked};
use std::fs::{File, FileTimes};
use std::io::Result;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file, and what keeps it there until this is dropped.
pub struct HeldFile {
    path: PathBuf,
    _kept: Option<Kept>,
}

/// What keeps a file.
enum Kept {
    /// A shared lock, which other processes respect before they remove it from the cache.
    Locked(#[expect(dead_code, reason = "held for its lock")] File),
    /// It is this request's alone, and removed with it.
    Own(#[expect(dead_code, reason = "removes the file when it is dropped")] Partial),
}

impl HeldFile {
    /// A file that others look after.
    pub fn outside(path: PathBuf) -> Self {
        Self { path, _kept: None }
    }

    /// A file of the cache, marked as used now; `None` if it is not there, or being removed.
    pub(super) fn cached(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        if is_locked(file.try_lock_shared()) { Self::locked(path, file) } else { None }
    }

    /// A file that was just put into the cache, with its exclusive lock; `None` if another process was quicker to remove
    /// it.
    pub(super) fn published(path: &Path, file: File) -> Option<Self> {
        if is_locked(file.try_lock_shared()) { Self::locked(path, file) } else { None }
    }

    fn locked(path: &Path, file: File) -> Option<Self> {
        let is_there = file.metadata().is_ok_and(|found| found.nlink() > 0);
        // The order of removal. What reads the file notices no change: that is the other time.
        let used = FileTimes::new().set_accessed(SystemTime::now());
        if let Err(error) = file.set_times(used) {
            tracing::debug!(%error, "the use of a cached adapter is not noted");
        }
        is_there.then(|| Self { path: path.to_owned(), _kept: Some(Kept::Locked(file)) })
    }

    pub(super) fn own(partial: Partial) -> Result<Self> {
        Ok(Self { path: partial.path().to_owned(), _kept: Some(Kept::Own(partial)) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
