//! Takes away what is past its time: files, uploads given up, parts and files that nobody needs, outputs not to be
//! kept.

use crate::queue::{Keep, Queue, QueueError};
use crate::storage::{FileKey, Storage, StorageError};
use std::time::Duration;

/// What is past its time is not served; how soon it leaves the disk matters less.
const EVERY: Duration = Duration::from_secs(60);

/// How often files are looked for that no row names.
const ORPHANS_EVERY: Duration = Duration::from_secs(86_400);

/// A file has its row moments after it is whole, and is written to all the while before.
const ORPHAN_AGE: Duration = Duration::from_secs(86_400);

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

/// Sweeps for ever, beginning now: what a stopped server left is taken up where it was. Where others may keep files
/// too, those without a row here are left alone.
pub(crate) async fn run(queue: Queue, storage: Storage, keep: Keep, is_shared: bool) {
    let mut clock = tokio::time::interval(EVERY);
    let mut rare_clock = tokio::time::interval(ORPHANS_EVERY);
    loop {
        let done = tokio::select! {
            _ = clock.tick() => all(&queue, &storage, &keep).await,
            _ = rare_clock.tick(), if !is_shared => orphans(&queue, &storage).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "what is past its time was not taken away");
        }
    }
}

/// Takes away the files that no row names: a process died between the file and its row, or while it wrote.
///
/// # Errors
/// When the queue or the storage refuses; what was not taken away is taken away the next time.
pub async fn orphans(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    let mut old = storage.older_than(ORPHAN_AGE);
    while let Some(found) = old.recv().await {
        let found = found?;
        let is_named = match &found.key {
            Some(key) => queue.names(key.as_str()).await?,
            None => false,
        };
        if !is_named {
            tracing::info!(?found, "a file without owner is taken away");
            storage.discard(&found)?;
        }
    }
    Ok(())
}

/// One round: what is past its time, then what is beyond the limits of what is kept.
async fn all(queue: &Queue, storage: &Storage, keep: &Keep) -> Result<(), SweepError> {
    once(queue, storage).await?;
    prune(queue, storage, keep).await
}

/// Deletes finished requests beyond the limits, oldest first, a batch at a time: other writers come in between.
///
/// # Errors
/// When the queue or the storage refuses; what was not deleted is deleted the next time.
pub async fn prune(queue: &Queue, storage: &Storage, keep: &Keep) -> Result<(), SweepError> {
    let mut requests = 0;
    loop {
        let pruned = queue.prune(keep).await?;
        requests += pruned.requests;
        if !pruned.is_some() {
            break;
        }
        drop_files(queue, storage).await?;
        tokio::task::yield_now().await;
    }
    if requests > 0 {
        tracing::info!(requests, "finished requests were deleted: see --keep-requests and --keep-days");
    }
    Ok(())
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
            queue.forget_upload(&ticket).await?;
        }
    }
}

async fn delete(storage: &Storage, key: &str) -> Result<(), StorageError> {
    match FileKey::parse(key) {
        Some(key) => storage.delete(&key).await,
        None => Ok(()),
    }
}
