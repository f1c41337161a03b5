//! Clients that wait for the result of a request. When the last of them hangs up, the request is cancelled.

use latentd_queue::queue::{FailureKind, Queue, RequestId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// The clients that wait; clones share them.
#[derive(Clone, Default)]
pub struct WaitingClients {
    /// How many wait for each request that has an idempotency key.
    counts: Arc<Mutex<HashMap<RequestId, usize>>>,
    /// The request of each client.
    open: Arc<watch::Sender<Vec<RequestId>>>,
}

/// One client that waits. The server drops it when the client hangs up, and when the call is over.
pub(crate) struct ClientGuard {
    queue: Queue,
    pub(crate) id: RequestId,
    clients: WaitingClients,
    /// Other clients may wait for the request too.
    is_counted: bool,
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
        if !has_idempotency_key {
            return Ok(self.guard(queue, submit.await?, false));
        }
        let mut counts = self.counts.lock().await;
        let id = submit.await?;
        *counts.entry(id).or_default() += 1;
        Ok(self.guard(queue, id, true))
    }

    fn guard(&self, queue: &Queue, id: RequestId, is_counted: bool) -> ClientGuard {
        self.open.send_modify(|open| open.push(id));
        ClientGuard { queue: queue.clone(), id, clients: self.clone(), is_counted, is_open: true }
    }

    /// Waits until no client waits.
    pub async fn all_gone(&self) {
        let _ = self.open.subscribe().wait_for(Vec::is_empty).await;
    }

    /// Cancels what clients still wait for: they will be cut off, and send it again elsewhere.
    pub async fn cancel_all(&self, queue: &Queue) {
        let open = self.open.borrow().clone();
        for id in open {
            cancel(queue, id).await;
        }
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
        let (queue, id, hung_up) = (self.queue.clone(), self.id, self.is_open);
        self.clients.open.send_modify(|open| {
            if let Some(at) = open.iter().position(|other| *other == id) {
                open.swap_remove(at);
            }
        });
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let counts = self.is_counted.then(|| self.clients.counts.clone());
        runtime.spawn(async move {
            let Some(counts) = counts else {
                return if hung_up {
                    cancel(&queue, id).await
                };
            };
            let mut counts = counts.lock().await;
            if leave(&mut counts, id) && hung_up {
                cancel(&queue, id).await;
            }
        });
    }
}

/// Counts a client out; `true` when it was the last.
fn leave(counts: &mut HashMap<RequestId, usize>, id: RequestId) -> bool {
    let left = counts.get(&id).map_or(0, |count| count - 1);
    match left {
        0 => drop(counts.remove(&id)),
        _ => drop(counts.insert(id, left)),
    }
    left == 0
}

async fn cancel(queue: &Queue, id: RequestId) {
    match queue.cancel(id, FailureKind::ClientGone).await {
        Ok(answer) => tracing::info!(request = %id, ?answer, "the client hung up"),
        Err(error) => tracing::warn!(request = %id, %error, "not cancelled after its client hung up"),
    }
}
