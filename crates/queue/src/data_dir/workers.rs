//! Which workers run on a data directory: each holds the lock of a file of its own, which the system releases when the
//! process ends, however it ends.

use super::{lock_file, make};
use std::fs::File;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Folder of the files, each with the name of its worker.
const FOLDER: &str = "workers";

/// What the name of a file ends with before it is locked.
const UNLOCKED: &str = ".new";

/// Locks the file of a worker, until the returned file is dropped or the process ends.
///
/// # Errors
/// When the system refuses.
pub fn hold_worker(directory: &Path, id: &str) -> Result<File> {
    let folder = directory.join(FOLDER);
    make(&folder)?;
    let unlocked = folder.join(format!("{id}{UNLOCKED}"));
    let lock = lock_file(&unlocked)?.ok_or(ErrorKind::WouldBlock)?;
    std::fs::rename(&unlocked, folder.join(id))?;
    Ok(lock)
}

/// Takes a worker for ended, whatever its file says.
///
/// # Errors
/// When the system refuses.
pub fn forget_worker(directory: &Path, id: &str) -> Result<()> {
    match std::fs::remove_file(directory.join(FOLDER).join(id)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A worker that ended. Until this is dropped no other process finds it.
#[derive(Debug)]
pub struct EndedWorker {
    /// Its name.
    pub id: String,
    path: PathBuf,
    _lock: File,
}

impl EndedWorker {
    /// Removes its file.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn forget(self) -> Result<()> {
        std::fs::remove_file(&self.path)
    }
}

/// The workers of a data directory that ended and were not forgotten.
///
/// # Errors
/// When the system refuses.
pub fn ended_workers(directory: &Path) -> Result<Vec<EndedWorker>> {
    let entries = match std::fs::read_dir(directory.join(FOLDER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut ended = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(UNLOCKED) {
            continue;
        }
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // forgotten by another process
            other => other?,
        };
        if file.try_lock().is_ok() {
            ended.push(EndedWorker { id: name.into_owned(), path, _lock: file });
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(directory: &Path) -> Vec<String> {
        let ended = ended_workers(directory).expect("a directory");
        ended.into_iter().map(|worker| worker.id).collect()
    }

    #[test]
    fn a_worker_has_ended_when_its_lock_is_free_until_it_is_forgotten() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        assert_eq!(ids(path), Vec::<String>::new(), "there is no folder");
        let (first, second) = (hold_worker(path, "first")?, hold_worker(path, "second")?);
        assert_eq!(ids(path), Vec::<String>::new());
        drop(first);
        let found = ended_workers(path)?;
        assert_eq!(ids(path), Vec::<String>::new(), "another process puts it back");
        drop(found);
        assert_eq!(ids(path), ["first"], "and could not");
        for ended in ended_workers(path)? {
            ended.forget()?;
        }
        forget_worker(path, "second")?;
        forget_worker(path, "second")?;
        drop(second);
        assert_eq!(ids(path), Vec::<String>::new());
        Ok(())
    }
}
