//! Waiting for the end of a request.

use latentd_queue::fault::Fault;
use latentd_queue::queue::events::{POLL, signal_or};
use latentd_queue::queue::{Ended, Queue, QueueError, RequestId};

/// Waits for the end of a request, also while the database is away; returns the bytes of its output.
pub(crate) async fn wait(queue: &Queue, id: RequestId) -> Result<u64, QueueError> {
    let mut moved = queue.events().moved();
    loop {
        moved.mark_unchanged();
        if let Some(bytes) = unless_away(queue.ended_bytes(id).await)? {
            return Ok(bytes);
        }
        signal_or(&mut moved, POLL).await;
    }
}

/// Reads how a request ended that is over, also while the database is away.
pub(crate) async fn ended(queue: &Queue, id: RequestId) -> Result<Ended, QueueError> {
    let mut moved = queue.events().moved();
    loop {
        moved.mark_unchanged();
        let ended = queue.ended(id).await.and_then(|ended| ended.ok_or_else(vanished));
        if let Some(ended) = unless_away(ended.map(Some))? {
            return Ok(ended);
        }
        signal_or(&mut moved, POLL).await;
    }
}

/// The error of a request that was there before.
pub(crate) fn vanished() -> QueueError {
    QueueError::Corrupt("a request that vanished while it was watched".into())
}

/// What was read for a client that waits for an accepted request. While the database is away that is nothing yet: the
/// request is still there, so its client waits on, as it would for a slow worker.
pub(crate) fn unless_away<T>(read: Result<Option<T>, QueueError>) -> Result<Option<T>, QueueError> {
    match read {
        Err(error) if error.is_machines() => {
            tracing::debug!(%error, "a client waits until the database is back");
            Ok(None)
        }
        other => other,
    }
}
