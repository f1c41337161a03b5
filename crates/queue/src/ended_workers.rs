//! Puts back the requests of workers that ended on this data directory and have no server that saw it: the server was killed
//! too, or they never had one. Without this their requests wait until their leases are over.

use crate::data_dir;
use crate::queue::{Lost, Queue, QueueError, Reclaimed};
use std::path::Path;

/// Why requests were not put back; to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum EndedWorkersError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The data directory.
    #[error("the locks of workers: {0}")]
    Io(#[from] std::io::Error),
}

/// Puts back what workers had that ended since the last call; cheap when none has. To be called at a start and about once a
/// second. Who puts a worker's claims back otherwise calls [`data_dir::forget_worker`] before it ends.
///
/// # Errors
/// When the queue or the directory refuses.
pub async fn put_back(queue: &Queue, directory: &Path) -> Result<Reclaimed, EndedWorkersError> {
    let mut all = Reclaimed::default();
    let directory = directory.to_owned();
    let ended = tokio::task::spawn_blocking(move || data_dir::ended_workers(&directory)).await;
    for worker in ended.map_err(std::io::Error::other)?? {
        let done = queue.reclaim(Lost::Died(&worker.id)).await?;
        worker.forget()?;
        all.waiting += done.waiting;
        all.ended += done.ended;
    }
    Ok(all)
}
