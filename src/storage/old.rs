//! Files of the store by age, whatever names them: for whoever looks for those that nothing names.

use super::{FileKey, Storage, StorageError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Files that are found ahead of whoever looks at them.
const AHEAD: usize = 100;

/// A file that was not written to for long.
#[derive(Debug)]
pub struct Old {
    path: PathBuf,
    /// Its name; `None`: the process that wrote it died before it was whole.
    pub key: Option<FileKey>,
}

impl Storage {
    /// Finds what was not written to for `age`, one after the other. What is no file of this store is passed over.
    pub fn older_than(&self, age: Duration) -> mpsc::Receiver<Result<Old, StorageError>> {
        let (found, finds) = mpsc::channel(AHEAD);
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = walk(&directory, age, &found) {
                let _ = found.blocking_send(Err(error.into()));
            }
        });
        finds
    }

    /// Takes such a file away; one that is gone already is no error.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn discard(&self, old: &Old) -> Result<(), StorageError> {
        match std::fs::remove_file(&old.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }
}

fn walk(
    directory: &Path,
    age: Duration,
    found: &mpsc::Sender<Result<Old, StorageError>>,
) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Some(key) = entry.file_name().to_str().and_then(name) else { continue };
        let Ok(meta) = entry.metadata() else { continue }; // it was just deleted
        let is_old = meta.modified()?.elapsed().is_ok_and(|since| since > age);
        if is_old && found.blocking_send(Ok(Old { path: entry.path(), key })).is_err() {
            break;
        }
    }
    Ok(())
}

/// Reads a name in the directory: a file's, or that of one that is being written, which ends in `#` and a number.
fn name(text: &str) -> Option<Option<FileKey>> {
    match text.split_once('#') {
        None => FileKey::parse(text).map(Some),
        Some((stem, _)) => FileKey::parse(stem).map(|_| None),
    }
}
