//! Waiting for the end of a request.

use latentd_queue::queue::events::{POLL, signal_or};
use latentd_queue::queue::{Ended, Queue, QueueError, RequestId};

/// Waits for the end of a request.
pub(crate) async fn wait(queue: &Queue, id: RequestId) -> Result<Ended, QueueError> {
    let mut moved = queue.events().moved();
    loop {
        moved.mark_unchanged();
        if let Some(ended) = queue.ended(id).await? {
            return Ok(ended);
        }
        signal_or(&mut moved, POLL).await;
    }
}
