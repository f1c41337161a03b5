//! The data directory: made, held by one server at a time, and written to so that no file is ever half there.

mod private;
mod workers;

pub use private::{close, close_alone};
pub use workers::{EndedWorker, ended_workers, forget_worker, hold_worker};

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the file whose lock a server holds.
pub const LOCK: &str = "serve.lock";

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another server works here.
    #[error("{0} is in use by another `latentd serve`: stop it or choose another --data-dir")]
    InUse(String),
    /// The system refused.
    #[error("data directory {0}: {1}")]
    Io(String, std::io::Error),
    /// Another server works with the database, perhaps with another directory.
    #[error("the database {0} is in use by another `latentd serve`: stop it or give another --database-url")]
    DatabaseInUse(String),
    /// The system refused.
    #[error("database {0}: {1}")]
    DatabaseIo(String, std::io::Error),
}

/// Is this a directory for what a server keeps, and for nothing else? One that is empty is meant to be.
pub fn is_ours(directory: &Path) -> bool {
    let is_empty = || std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
    directory.join(LOCK).exists() || is_empty()
}

/// Makes the directory and takes its lock, which holds until the returned file is dropped or the
/// process dies, however it dies.
pub fn hold(directory: &Path) -> Result<File, DataDirError> {
    let name = directory.display().to_string();
    let lock = make(directory).map(|()| directory.join(LOCK));
    lock.and_then(|path| lock_file(&path))
        .map_err(|error| DataDirError::Io(name.clone(), error))?
        .ok_or(DataDirError::InUse(name))
}

/// Takes the lock of a database, whatever data directory it is used with: a server that starts takes every claim of the
/// database for that of a dead one. SQLite's own locks are on the file itself, so this one is beside it; it is the same
/// however the file is spelled.
pub fn hold_database(database: &Path) -> Result<File, DataDirError> {
    let name = database.display().to_string();
    let lock = database_lock(database).and_then(|path| lock_file(&path));
    lock.map_err(|error| DataDirError::DatabaseIo(name.clone(), error))?
        .ok_or(DataDirError::DatabaseInUse(name))
}

fn database_lock(database: &Path) -> std::io::Result<PathBuf> {
    let real = match database.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let directory = database.parent().unwrap_or(Path::new("."));
            make(directory)?;
            directory.canonicalize()?.join(database.file_name().unwrap_or_default())
        }
        other => other?,
    };
    let mut path = real.into_os_string();
    path.push(".lock");
    Ok(path.into())
}

/// `None`: somebody else has it.
fn lock_file(path: &Path) -> std::io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a directory and those above it that are missing, for this user alone; each has its entry on the disk when this
/// returns.
pub fn make(directory: &Path) -> std::io::Result<()> {
    let missing: Vec<_> = directory.ancestors().take_while(|path| !path.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Makes the entries of a directory durable.
pub fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Looks whether a server could work here, and leaves nothing behind; `false`: the directory is yet to be made.
///
/// # Errors
/// Why it could not.
pub fn probe(directory: &Path) -> Result<bool, DataDirError> {
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
pub fn write(path: &Path, mode: u32, content: &[u8]) -> std::io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    // What a crash left there may have other permissions.
    let _ = std::fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    sync(path.parent().unwrap_or(Path::new(".")))
}
