//! Files of this server's storage that requests name: uploads, and images of earlier requests.

use super::Worker;
use crate::queue::{FileLife, Queue, QueueError};
use crate::storage::{Fetched, FileKey, StorageError};

/// What a request is told of a file that is not there.
pub(super) const MISSING: &str = "this server has no such file, or not any longer";

/// What the database has about a file's public name.
pub(super) enum Found {
    /// The file is there, under this key.
    Known(String),
    /// Its time is over.
    Over,
    /// Nothing: if there is a file, it is under the same name.
    Unknown,
}

/// Looks a public name up.
pub(super) async fn find(queue: &Queue, key: &str) -> Result<Found, QueueError> {
    if let Some(file) = queue.uploaded(key).await? {
        return Ok(Found::Known(file.object));
    }
    Ok(match queue.file_life(key).await? {
        Some(FileLife::Kept | FileLife::Ends(_)) => Found::Known(key.to_owned()),
        Some(FileLife::Over) => Found::Over,
        None => Found::Unknown,
    })
}

/// Opens a file by its public name; `None` if there is none, or its time is over.
pub(super) async fn open<E: From<QueueError> + From<StorageError>>(
    worker: &Worker,
    key: &str,
) -> Result<Option<Fetched>, E> {
    let object = match find(&worker.queue, key).await? {
        Found::Known(object) => object,
        Found::Over => return Ok(None),
        Found::Unknown => key.to_owned(),
    };
    match FileKey::parse(&object) {
        Some(object) => Ok(worker.storage.get(&object, None).await?),
        None => Ok(None),
    }
}
