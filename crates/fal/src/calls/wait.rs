//! Waiting for the end of a request.

use latentd_queue::fault::Fault;
use latentd_queue::queue::events::{POLL, signal_or};
use latentd_queue::queue::{Ended, Queue, QueueError, RequestId};

/// Waits for the end of a request, also while the database is away.
pub(crate) async fn wait(queue: &Queue, id: RequestId) -> Result<Ended, QueueError> {
    let mut moved = queue.events().moved();
    loop {
        moved.mark_unchanged();
        if let Some(ended) = unless_away(queue.ended(id).await)? {
            return Ok(ended);
        }
        signal_or(&mut moved, POLL).await;
    }
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
