//! Takes away what is past its time: files, uploads given up, parts that nobody needs, outputs not to be kept.

use crate::queue::{Queue, QueueError};
use crate::storage::{FileKey, Storage, StorageError};
use std::time::Duration;

/// What is past its time is not served; how soon it leaves the disk matters less.
const EVERY: Duration = Duration::from_secs(60);

/// Why something could not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The file storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Sweeps for ever, beginning now: what a stopped server left is taken up where it was.
pub(crate) async fn run(queue: Queue, storage: Storage) {
    let mut clock = tokio::time::interval(EVERY);
    loop {
        clock.tick().await;
        if let Err(error) = once(&queue, &storage).await {
            tracing::warn!(%error, "what is past its time was not taken away");
        }
    }
}

/// Takes away what is past its time now. An object goes before the row that names it, so that nothing is left
/// without a name.
///
/// # Errors
/// When the queue or the storage refuses; what was not taken away is taken away the next time.
pub async fn once(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    queue.erase_ended().await?;
    drop_files(queue, storage).await?;
    drop_parts(queue, storage).await?;
    drop_uploads(queue, storage).await
}

async fn drop_files(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    loop {
        let ended = queue.ended_files().await?;
        if ended.is_empty() {
            return Ok(());
        }
        for key in ended {
            delete(storage, &key).await?;
            queue.forget_file(&key).await?;
        }
    }
}

/// Takes away the parts of files that are whole or given up.
pub(crate) async fn drop_parts(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    loop {
        let parts = queue.needless_parts().await?;
        if parts.is_empty() {
            return Ok(());
        }
        for part in parts {
            delete(storage, &part).await?;
            queue.forget_part(&part).await?;
        }
    }
}

async fn drop_uploads(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    loop {
        let ended = queue.ended_uploads().await?;
        if ended.is_empty() {
            return Ok(());
        }
        for (ticket, object) in ended {
            if let Some(object) = object {
                delete(storage, &object).await?;
            }
            queue.forget_upload(ticket).await?;
        }
    }
}

async fn delete(storage: &Storage, key: &str) -> Result<(), StorageError> {
    match FileKey::parse(key) {
        Some(key) => storage.delete(&key).await,
        None => Ok(()),
    }
}
