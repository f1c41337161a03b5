//! Files and folders that one process writes and nobody else reads, each locked by it until it has its final name or is
//! removed. Those of processes that died are known by their lock, which is free.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Result, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// What the name of the folder beside a file ends in.
const FOLDER: &str = "folder";

/// A file that is being written. It is removed with this unless it was renamed.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    is_removed: bool,
}

impl Partial {
    /// Makes one in a folder, for this user alone.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        loop {
            let path = folder.join(Uuid::new_v4().simple().to_string());
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            // A process that has just started may have removed it before it was locked.
            if is_locked(file.try_lock()) && file.metadata()?.nlink() > 0 {
                return Ok(Self { path, file, is_removed: true });
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a folder that goes with the file and is removed with it.
    pub(super) fn folder(&self) -> PathBuf {
        self.path.with_extension(FOLDER)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes)
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all()
    }

    /// Gives the file its final name, and the lock on it to the caller.
    pub(super) fn rename(mut self, path: &Path) -> Result<File> {
        fs::rename(&self.path, path)?;
        self.is_removed = false;
        self.file.try_clone()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.is_removed {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    let _ = fs::remove_dir_all(path.with_extension(FOLDER));
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, "a partial file of an adapter is left behind");
    }
}

/// Removes what processes left that died.
pub(super) fn remove_abandoned(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some() {
            continue; // a folder goes with its file
        }
        let Ok(file) = File::open(&path) else { continue };
        if is_locked(file.try_lock()) {
            remove(&path);
        }
    }
    Ok(())
}

/// Whether a lock was taken. A file system without locks, as hosts may share, counts as one where nobody holds any.
pub(super) fn is_locked(taken: std::result::Result<(), TryLockError>) -> bool {
    match taken {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => error.kind() == ErrorKind::Unsupported,
    }
}
