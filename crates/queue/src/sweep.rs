//! Removes what is past its time: outputs, files, uploads given up, and files that never got an owner.
//!
//! A file is removed only by a row that says so: what owned it gave it up, or whoever was to write it is gone.

use crate::fault::Fault;
use crate::queue::{Keep, Pruned, Queue, QueueError};
use crate::storage::{FileKey, Storage, StorageError};
use crate::storage_limit::StorageLimit;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often it is looked whether something is past its time. That is not served; how soon it leaves the disk matters less.
const EVERY: Duration = Duration::from_secs(60);

/// While requests keep coming, what is past its time is removed this long after the last time.
const LATEST: Duration = Duration::from_secs(600);

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

/// Sweeps for ever, beginning now: what a stopped server left is taken up where it was. Of servers that share a database one
/// sweeps. It does so in small batches while no request waits or runs, and at the latest [`LATEST`] after the last whole
/// sweep; at once where `limit` is reached.
pub async fn run(queue: Queue, storage: Storage, keep: Keep, limit: StorageLimit) {
    let server = Uuid::new_v4().to_string();
    let mut clock = tokio::time::interval(EVERY);
    let mut swept = Instant::now();
    loop {
        let is_urgent = tokio::select! {
            _ = clock.tick() => swept.elapsed() >= LATEST,
            () = limit.reached() => true,
        };
        match pass(&queue, &storage, &keep, &server, is_urgent).await {
            Ok(true) => swept = Instant::now(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "what is past its time was not removed"),
        }
    }
}

/// Removes batch after batch; `false`: requests came first, and there may be more to remove.
async fn pass(
    queue: &Queue,
    storage: &Storage,
    keep: &Keep,
    server: &str,
    is_urgent: bool,
) -> Result<bool, SweepError> {
    queue.note_time().await?;
    if keep.bytes.is_some() {
        measure_uploads(queue, storage).await?;
    }
    loop {
        if !queue.hold_sweep(server).await? {
            return Ok(true);
        }
        if !is_urgent && !queue.is_idle().await? {
            return Ok(false);
        }
        if !batch(queue, storage, keep).await? {
            break;
        }
        tokio::task::yield_now().await;
    }
    queue.truncate_wal().await?;
    Ok(true)
}

/// Removes a few things of each kind; `false`: there was nothing.
async fn batch(queue: &Queue, storage: &Storage, keep: &Keep) -> Result<bool, SweepError> {
    let pruned = prune_some(queue, keep).await?;
    let ended = end_some(queue).await?;
    let removed = if queue.is_settled().await? { remove_some(queue, storage).await? } else { 0 };
    Ok(pruned || ended > 0 || removed > 0)
}

/// Deletes what is beyond the limits, oldest first, a batch at a time: other writers come in between. Files are given up and
/// removed by the next sweep.
///
/// # Errors
/// When the queue refuses; what was not deleted is deleted the next time.
pub async fn prune(queue: &Queue, keep: &Keep) -> Result<(), SweepError> {
    while prune_some(queue, keep).await? {
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn prune_some(queue: &Queue, keep: &Keep) -> Result<bool, SweepError> {
    let pruned = queue.prune(keep).await?;
    let Pruned { requests, results, inputs, uploads, log_lines: _ } = pruned;
    if requests + results + inputs + uploads > 0 {
        tracing::info!(
            requests,
            results,
            inputs,
            uploads,
            "deleted by --keep-requests, --keep-results, --keep-inputs or --max-storage"
        );
    }
    Ok(pruned.is_some())
}

/// Removes what is past its time now. Files stay in the first hour of a database with its folder.
///
/// # Errors
/// When the queue or the storage refuses; what was not removed is removed the next time.
pub async fn once(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    while end_some(queue).await? > 0 {}
    if queue.is_settled().await? { remove_given_up(queue, storage).await } else { Ok(()) }
}

async fn end_some(queue: &Queue) -> Result<u64, SweepError> {
    let ended = queue.erase_ended().await? + queue.end_files().await? + queue.end_uploads().await?;
    Ok(ended + queue.give_up_abandoned_files().await?)
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
    while remove_some(queue, storage).await? > 0 {}
    Ok(())
}

async fn remove_some(queue: &Queue, storage: &Storage) -> Result<usize, SweepError> {
    let given_up = queue.given_up_files().await?;
    for name in &given_up {
        if let Some(key) = FileKey::parse(name) {
            storage.delete(&key).await?;
        }
        queue.forget_file(name).await?;
    }
    Ok(given_up.len())
}

/// Writes down the sizes of uploads that earlier versions did not write down.
async fn measure_uploads(queue: &Queue, storage: &Storage) -> Result<(), SweepError> {
    loop {
        let unknown = queue.uploads_of_unknown_size().await?;
        if unknown.is_empty() {
            return Ok(());
        }
        for object in unknown {
            let stored = match FileKey::parse(&object) {
                Some(key) => storage.get(&key, None).await?,
                None => None,
            };
            queue.set_upload_size(&object, stored.map_or(0, |file| file.size)).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity;
    use crate::queue::{FailureKind, NewRequest, Origin, Priority, RequestOptions, Submission};
    use std::sync::Arc;

    /// Batches wait for requests, until they are urgent.
    #[tokio::test]
    async fn a_sweep_lets_requests_go_first_unless_it_is_urgent() {
        let directory = tempfile::tempdir().expect("a directory");
        let later = || jiff::Timestamp::now() + jiff::SignedDuration::from_hours(2);
        let path = directory.path().join("q.sqlite");
        let storage = Storage::local(&directory.path().join("files")).expect("a folder");
        let first = Queue::open(&path, Arc::new(jiff::Timestamp::now)).await.expect("a database");
        identity::join(&first, &storage).await.expect("a new folder");
        first.close().await;
        // Another start of the machine, two hours later by its date: files may be removed.
        let queue = Queue::open(&path, Arc::new(later)).await.expect("a database");
        let queue = queue.with_lease_clock(crate::queue::LeaseClock::new("next", || Duration::ZERO));
        let key = FileKey::fresh("png");
        let leave = async || {
            queue.expect_files(&[key.as_str()], None).await.expect("a database");
            storage.put(&key, b"bytes".to_vec()).await.expect("a folder");
            assert!(queue.give_up_file(key.as_str()).await.expect("a database"));
        };
        let is_there = async || storage.get(&key, None).await.expect("a folder").is_some();
        let new = NewRequest {
            endpoint: "app".into(),
            origin: Origin::Queued,
            priority: Priority::Normal,
            body: serde_json::Value::Null,
            model: None,
            max_waiting: None,
            options: RequestOptions::default(),
            webhook: None,
            api_key: None,
            client: None,
            traceparent: None,
            idempotency: None,
        };
        let Submission::Accepted { id, .. } = queue.submit(&new).await.expect("a database") else {
            panic!("an empty queue")
        };
        let sweep = async |is_urgent| {
            pass(&queue, &storage, &Keep::default(), "server", is_urgent).await.expect("a sweep")
        };
        leave().await;
        assert!(!sweep(false).await && is_there().await, "a request waits");
        assert!(sweep(true).await && !is_there().await, "it was put off long enough");
        leave().await;
        queue.cancel(id, FailureKind::Cancelled).await.expect("a database");
        assert!(sweep(false).await && !is_there().await, "nothing waits");
    }
}
