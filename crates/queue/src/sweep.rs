//! Removes what is past its time: outputs, files, uploads given up, and files that never got an owner.
//!
//! A file is removed only by a row that says so: what owned it gave it up, or whoever was to write it is gone.

use crate::fault::Fault;
use crate::queue::{Keep, Queue, QueueError};
use crate::storage::{FileKey, Storage, StorageError};
use std::time::Duration;

/// What is past its time is not served; how soon it leaves the disk matters less.
const EVERY: Duration = Duration::from_secs(60);

/// Why something could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The file storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Fault for SweepError {
    fn is_machines(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_machines(),
            Self::Storage(error) => error.is_machines(),
        }
    }
}

/// Sweeps for ever, beginning now: what a stopped server left is taken up where it was.
pub async fn run(queue: Queue, storage: Storage, keep: Keep) {
    let mut clock = tokio::time::interval(EVERY);
    loop {
        clock.tick().await;
        let done = async {
            queue.note_time().await?;
            prune(&queue, &keep).await?;
            once(&queue, &storage).await
        };
        if let Err(error) = done.await {
            tracing::warn!(%error, "what is past its time was not removed");
        }
    }
}

/// Deletes finished requests and logs beyond the limits, oldest first, a batch at a time: other writers come in between.
/// Their files are given up with them and removed by the next sweep.
///
/// # Errors
/// When the queue refuses; what was not deleted is deleted the next time.
pub async fn prune(queue: &Queue, keep: &Keep) -> Result<(), SweepError> {
    let mut requests = 0;
    loop {
        let pruned = queue.prune(keep).await?;
        requests += pruned.requests;
        if !pruned.is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    if requests > 0 {
        tracing::info!(requests, "finished requests were deleted: see --keep-requests and --keep-days");
    }
    Ok(())
}

/// Removes what is past its time now. Files stay in the first hour of a database with its folder.
///
/// # Errors
/// When the queue or the storage refuses; what was not removed is removed the next time.
pub async fn once(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    queue.erase_ended().await?;
    queue.end_files().await?;
    queue.end_uploads().await?;
    queue.give_up_abandoned_files().await?;
    if queue.is_settled().await? { remove_given_up(queue, storage).await } else { Ok(()) }
}

/// Removes the parts of files that are whole.
pub async fn parts(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    queue.end_needless_parts().await?;
    if queue.is_settled().await? { remove_given_up(queue, storage).await } else { Ok(()) }
}

/// Removes a file that comes to nothing; one that has an owner stays.
pub async fn discard(queue: &Queue, storage: &Storage, key: &FileKey) -> Result<(), SweepError> {
    if queue.give_up_file(key.as_str()).await? {
        storage.delete(key).await?;
        queue.forget_file(key.as_str()).await?;
    }
    Ok(())
}

async fn remove_given_up(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    loop {
        let given_up = queue.given_up_files().await?;
        if given_up.is_empty() {
            return Ok(());
        }
        for name in given_up {
            if let Some(key) = FileKey::parse(&name) {
                storage.delete(&key).await?;
            }
            queue.forget_file(&name).await?;
        }
    }
}
