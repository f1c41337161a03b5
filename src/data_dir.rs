//! The data directory: made, and held by one server at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another server works here.
    #[error("{0} is in use by another `latentd serve`: stop it or choose another --data-dir")]
    InUse(String),
    /// The system refused.
    #[error("data directory {0}: {1}")]
    Io(String, std::io::Error),
}

/// Makes the directory and takes its lock, which holds until the returned file is dropped or the
/// process dies, however it dies.
pub(crate) fn hold(directory: &Path) -> Result<File, DataDirError> {
    let name = directory.display().to_string();
    let locked = std::fs::create_dir_all(directory).and_then(|()| File::create(directory.join("serve.lock")));
    let file = locked.map_err(|error| DataDirError::Io(name.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(name)),
        Err(TryLockError::Error(error)) => Err(DataDirError::Io(name, error)),
    }
}
