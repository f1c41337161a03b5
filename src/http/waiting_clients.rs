//! Clients that hold the line for a result. When the last of a request's clients hangs up, the request is stopped.

use crate::queue::{FailureKind, Queue, RequestId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// How many clients wait for each request; clones share the count.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<HashMap<RequestId, usize>>>);

/// One client that waits. The server drops it when the client hangs up, and when the call is over.
pub(super) struct Line {
    lines: Lines,
    queue: Queue,
    pub(super) id: RequestId,
    open: bool,
}

impl Lines {
    /// Counts a client in that submits now. Nobody hangs up meanwhile, so a request that was found is not
    /// stopped before its new client counts.
    pub(super) async fn open<E>(
        &self,
        queue: &Queue,
        submit: impl Future<Output = Result<RequestId, E>>,
    ) -> Result<Line, E> {
        let mut waiting = self.0.lock().await;
        let id = submit.await?;
        *waiting.entry(id).or_default() += 1;
        Ok(Line { lines: self.clone(), queue: queue.clone(), id, open: true })
    }
}

impl Line {
    /// The request is over, or its client has the answer.
    pub(super) fn close(mut self) {
        self.open = false;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (lines, queue, id, hung_up) = (self.lines.clone(), self.queue.clone(), self.id, self.open);
        runtime.spawn(async move {
            let mut waiting = lines.0.lock().await;
            if leave(&mut waiting, id) && hung_up {
                stop(&queue, id).await;
            }
        });
    }
}

/// Counts a client out; `true` when it was the last.
fn leave(waiting: &mut HashMap<RequestId, usize>, id: RequestId) -> bool {
    let left = waiting.get(&id).map_or(0, |count| count - 1);
    match left {
        0 => drop(waiting.remove(&id)),
        _ => drop(waiting.insert(id, left)),
    }
    left == 0
}

async fn stop(queue: &Queue, id: RequestId) {
    match queue.cancel(id, FailureKind::ClientGone).await {
        Ok(answer) => tracing::info!(request = %id, ?answer, "the client hung up"),
        Err(error) => tracing::warn!(request = %id, %error, "not stopped after its client hung up"),
    }
}
