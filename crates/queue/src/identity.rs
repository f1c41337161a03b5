//! Puts a database and the folder of its files together: both carry one id, and neither is used with a stranger.
//!
//! The folder has it in a file beside the images. A folder and a database from before there were ids get one where they
//! know each other.

use crate::data_dir;
use crate::queue::{Identity, Queue, QueueError};
use crate::storage::{Storage, StorageError};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::PathBuf;

/// Name of the folder's file.
pub const FILE: &str = "identity.json";

/// Why they are not used together.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Each belongs to another one.
    #[error(
        "the files in {folder} belong to another database ({theirs}, not {ours}): start with the --database-url and --data-dir that they were made with, or give another --storage"
    )]
    Stranger {
        /// Of the files.
        folder: String,
        /// Id in the folder.
        theirs: String,
        /// Id in the database.
        ours: String,
    },
    /// There are files, and the database knows none of them.
    #[error(
        "{0} holds files that the database knows nothing of: start with the --database-url that they were made with; to begin anew, move them away or give another --storage"
    )]
    UnknownFiles(String),
    /// The database knows files, and there are none.
    #[error(
        "the database knows files, and {folder} holds none of them: is its disk mounted, is --storage right? To go on without them put {{\"database\":\"{id}\"}} into {file}"
    )]
    NoFiles {
        /// Where they should be.
        folder: String,
        /// What to write.
        id: String,
        /// Where.
        file: String,
    },
    /// The folder's file cannot be used.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// The database.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The folder.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What the folder says.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    database: String,
    #[serde(default)]
    starts: i64,
}

/// Puts them together for a server that starts.
///
/// # Errors
/// When they do not belong together; nothing was changed then.
pub async fn join(queue: &Queue, storage: &Storage) -> Result<(), IdentityError> {
    let Identity { id, starts } = queue.identity().await?;
    match read(storage)? {
        Some(mark) => {
            check(storage, &id, &mark)?;
            if mark.starts > starts {
                tracing::warn!(
                    "the database is an earlier copy of the one that its files were last used with: files that it does not know stay"
                );
                queue.rejoin(mark.starts).await?;
            }
        }
        None => check_strangers(queue, storage, &id).await?,
    }
    queue.note_time().await?;
    let starts = queue.count_start().await?;
    write(storage, &id, starts)
}

/// Refuses a folder that belongs to another database, for processes beside the server.
///
/// # Errors
/// When it does.
pub async fn check_folder(queue: &Queue, storage: &Storage) -> Result<(), IdentityError> {
    let Identity { id, .. } = queue.identity().await?;
    match read(storage)? {
        Some(mark) => check(storage, &id, &mark),
        None => check_strangers(queue, storage, &id).await,
    }
}

/// Marks a folder as that of a database.
///
/// # Errors
/// When the mark cannot be written.
pub fn write(storage: &Storage, id: &str, starts: i64) -> Result<(), IdentityError> {
    let path = path(storage);
    let mark = serde_json::to_vec(&Mark { database: id.to_owned(), starts }).expect("text and a number");
    data_dir::write(&path, 0o600, &mark).map_err(|error| IdentityError::Io(path.display().to_string(), error))
}

fn read(storage: &Storage) -> Result<Option<Mark>, IdentityError> {
    let path = path(storage);
    let failed = |error| IdentityError::Io(path.display().to_string(), error);
    match std::fs::read(&path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).map_err(|error| failed(error.into()))?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn path(storage: &Storage) -> PathBuf {
    storage.directory().join(FILE)
}

fn check(storage: &Storage, id: &str, mark: &Mark) -> Result<(), IdentityError> {
    if mark.database == id {
        return Ok(());
    }
    let folder = storage.directory().display().to_string();
    Err(IdentityError::Stranger { folder, theirs: mark.database.clone(), ours: id.to_owned() })
}

/// A folder without a mark is a new one, or one from before there were marks: then database and files know each other.
async fn check_strangers(queue: &Queue, storage: &Storage, id: &str) -> Result<(), IdentityError> {
    let folder = || storage.directory().display().to_string();
    let mut is_empty = true;
    for key in storage.list()? {
        if queue.owns_file(key.as_str()).await? {
            return Ok(());
        }
        is_empty = false;
    }
    let owns_files = queue.owns_files().await?;
    match is_empty {
        true if owns_files => {
            let file = path(storage).display().to_string();
            Err(IdentityError::NoFiles { folder: folder(), id: id.to_owned(), file })
        }
        // What a crash of an earlier version left is all that is there.
        false if owns_files || !queue.was_used().await? => Err(IdentityError::UnknownFiles(folder())),
        _ => Ok(()),
    }
}
