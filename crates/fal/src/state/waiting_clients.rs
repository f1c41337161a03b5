//! Clients that wait for the result of a request. When the last of them hangs up, the request is cancelled.

use latentd_queue::queue::{FailureKind, Queue, RequestId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// How many clients wait for each request that has an idempotency key; clones share the count.
#[derive(Clone, Default)]
pub struct WaitingClients(Arc<Mutex<HashMap<RequestId, usize>>>);

/// One client that waits. The server drops it when the client hangs up, and when the call is over.
pub(crate) struct ClientGuard {
    queue: Queue,
    pub(crate) id: RequestId,
    /// Of a request that other clients may wait for too.
    counted: Option<WaitingClients>,
    is_open: bool,
}

impl WaitingClients {
    /// Submits a request that one client waits for. With an idempotency key, several may: then nobody is counted out
    /// during the submit, so that a request that was found is not cancelled before its new client counts. Other requests
    /// do not wait for each other.
    pub(crate) async fn admit<E>(
        &self,
        queue: &Queue,
        has_idempotency_key: bool,
        submit: impl Future<Output = Result<RequestId, E>>,
    ) -> Result<ClientGuard, E> {
        let guard = |id, counted| ClientGuard { queue: queue.clone(), id, counted, is_open: true };
        if !has_idempotency_key {
            return Ok(guard(submit.await?, None));
        }
        let mut waiting = self.0.lock().await;
        let id = submit.await?;
        *waiting.entry(id).or_default() += 1;
        Ok(guard(id, Some(self.clone())))
    }
}

impl ClientGuard {
    /// The request is over, or its client has the answer.
    pub(crate) fn close(mut self) {
        self.is_open = false;
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (counted, queue, id, hung_up) = (self.counted.take(), self.queue.clone(), self.id, self.is_open);
        runtime.spawn(async move {
            let Some(clients) = counted else {
                return if hung_up {
                    cancel(&queue, id).await
                };
            };
            let mut waiting = clients.0.lock().await;
            if leave(&mut waiting, id) && hung_up {
                cancel(&queue, id).await;
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

async fn cancel(queue: &Queue, id: RequestId) {
    match queue.cancel(id, FailureKind::ClientGone).await {
        Ok(answer) => tracing::info!(request = %id, ?answer, "the client hung up"),
        Err(error) => tracing::warn!(request = %id, %error, "not cancelled after its client hung up"),
    }
}
