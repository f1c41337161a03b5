//! Checks that a database and its storage belong together: both carry one id, and neither is used with another's.
//!
//! The folder has it in a file beside the images. A folder and a database from before there were ids get one where they
//! know each other.

use crate::fault::Fault;
use crate::queue::{Database, Identity, Queue, QueueError};
use crate::storage::{Storage, StorageError};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

/// Name of the folder's file, or of the object at the bucket's prefix.
pub use crate::storage::MARK as FILE;

/// Why they are not used together.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Each belongs to another one.
    #[error(
        "the files in {folder} belong to another database ({theirs}, not {ours}): start with the --database-url and --data-dir that they were made with, or give another --storage"
    )]
    OtherDatabase {
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

impl Fault for IdentityError {
    fn is_machines(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_machines(),
            // What a directory or a bucket refuses is reported at once: a worker is started again.
            Self::Storage(error) => error.is_away(),
            Self::OtherDatabase { .. } | Self::UnknownFiles(_) | Self::NoFiles { .. } | Self::Io(..) => false,
        }
    }
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
    // Before the database is asked, whose starts other servers count meanwhile.
    let mark = read(storage).await?;
    let Identity { id, starts } = queue.identity().await?;
    if let Some(mark) = mark {
        check(storage, &id, &mark)?;
        if mark.starts > starts {
            tracing::warn!(
                "the database is an earlier copy of the one that its files were last used with: files that it does not know stay"
            );
            queue.rejoin(mark.starts).await?;
        }
    } else {
        check_unmarked(queue, storage, &id).await?;
        if !storage.create_mark(text(&id, starts)).await?
            && let Some(mark) = read(storage).await?
        {
            check(storage, &id, &mark)?; // another server was first
        }
    }
    queue.note_time().await?;
    let starts = queue.count_start().await?;
    write(storage, &id, starts).await
}

/// Refuses a folder that belongs to another database, for processes beside the server.
///
/// # Errors
/// When it does.
pub async fn check_folder(queue: &Queue, storage: &Storage) -> Result<(), IdentityError> {
    let Identity { id, .. } = queue.identity().await?;
    match read(storage).await? {
        Some(mark) => check(storage, &id, &mark),
        None => check_unmarked(queue, storage, &id).await,
    }
}

/// Refuses files that belong to another database, and changes nothing: for a check before anything is opened. Files without
/// a mark are judged when they are opened.
///
/// # Errors
/// When they do, or when either cannot be read.
pub async fn check_mark(database: &Database, storage: &Storage) -> Result<(), IdentityError> {
    let Some(mark) = read(storage).await? else { return Ok(()) };
    let id = database.look_identity().await?;
    check(storage, id.as_deref().unwrap_or("a new one"), &mark)
}

/// Marks a folder as that of a database.
///
/// # Errors
/// When the mark cannot be written.
pub async fn write(storage: &Storage, id: &str, starts: i64) -> Result<(), IdentityError> {
    Ok(storage.write_mark(text(id, starts)).await?)
}

fn text(id: &str, starts: i64) -> Vec<u8> {
    serde_json::to_vec(&Mark { database: id.to_owned(), starts }).expect("text and a number")
}

async fn read(storage: &Storage) -> Result<Option<Mark>, IdentityError> {
    let Some(text) = storage.read_mark().await? else { return Ok(None) };
    let read = serde_json::from_slice(&text);
    read.map(Some).map_err(|error| IdentityError::Io(path(storage), error.into()))
}

fn path(storage: &Storage) -> String {
    format!("{}/{FILE}", storage.place())
}

fn check(storage: &Storage, id: &str, mark: &Mark) -> Result<(), IdentityError> {
    if mark.database == id {
        return Ok(());
    }
    let folder = storage.place();
    Err(IdentityError::OtherDatabase { folder, theirs: mark.database.clone(), ours: id.to_owned() })
}

/// A folder without a mark is a new one, or one from before there were marks: then database and files know each other.
async fn check_unmarked(queue: &Queue, storage: &Storage, id: &str) -> Result<(), IdentityError> {
    let folder = || storage.place();
    let mut is_empty = true;
    let mut keys = storage.list();
    while let Some(key) = keys.try_next().await? {
        if queue.owns_file(key.as_str()).await? {
            return Ok(());
        }
        is_empty = false;
    }
    let owns_files = queue.owns_files().await?;
    match is_empty {
        true if owns_files => {
            Err(IdentityError::NoFiles { folder: folder(), id: id.to_owned(), file: path(storage) })
        }
        // What a crash of an earlier version left is all that is there.
        false if owns_files || !queue.was_used().await? => Err(IdentityError::UnknownFiles(folder())),
        _ => Ok(()),
    }
}
