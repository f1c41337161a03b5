//! The data directory: made, held by one server at a time, and written to so that no file is ever half there.

mod private;

pub(crate) use private::{close, close_alone, make_directory};

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Name of the file whose lock a server holds.
pub(crate) const LOCK: &str = "serve.lock";

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

/// Is this a directory for what a server keeps, and for nothing else? One that is empty is meant to be.
pub(crate) fn is_ours(directory: &Path) -> bool {
    let is_empty = || std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    directory.join(LOCK).exists() || is_empty()
}

/// Makes the directory and takes its lock, which holds until the returned file is dropped or the
/// process dies, however it dies.
pub(crate) fn hold(directory: &Path) -> Result<File, DataDirError> {
    let name = directory.display().to_string();
    let lock = directory.join(LOCK);
    let open = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(lock);
    let locked = make_directory(directory).and_then(|()| open());
    let file = locked.map_err(|error| DataDirError::Io(name.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(name)),
        Err(TryLockError::Error(error)) => Err(DataDirError::Io(name, error)),
    }
}

/// Looks whether a server could work here, and leaves nothing behind; `false`: the directory is yet to be made.
///
/// # Errors
/// Why it could not.
pub(crate) fn probe(directory: &Path) -> Result<bool, DataDirError> {
    let name = directory.display().to_string();
    let Some(nearest) = directory.ancestors().find(|path| path.exists()) else { return Ok(false) };
    let file = nearest.join(format!(".latentd-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&file);
    made.and_then(|_| std::fs::remove_file(&file)).map_err(|error| DataDirError::Io(name.clone(), error))?;
    match File::open(directory.join(LOCK)).map(|file| file.try_lock()) {
        Ok(Err(TryLockError::WouldBlock)) => Err(DataDirError::InUse(name)),
        _ => Ok(nearest == directory),
    }
}

/// Puts a file in its place, whole and durable, with these permissions.
pub(crate) fn write(path: &Path, mode: u32, content: &[u8]) -> std::io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    // What a crash left there may have other permissions.
    let _ = std::fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
