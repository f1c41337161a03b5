//! Delivers webhooks: claims those that are due from the outbox, posts them, records the outcome.
//!
//! Delivery is at least once: a message arrives twice when the server dies between the receiver's answer and the record of
//! it. A receiver recognises the second by its request id.

mod post;

use crate::queue::events::{POLL, signal_or};
use crate::queue::{Outcome, Queue, QueueError, WEBHOOK_HOLD, Webhook};
use bytes::Bytes;
use hyper::Request;
use latentd_egress::Egress;
use post::Poster;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Waits before the retries: ten, spread over two hours.
const RETRIES: [Duration; 10] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(20 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(37 * 60),
];

/// Messages on their way at once.
const AT_ONCE: usize = 64;

/// Bytes above which a message is large: its result has images inline.
const LARGE: usize = 64 * 1024;

/// Large messages in memory at once: receivers may be slow to take them.
const LARGE_AT_ONCE: usize = 4;

/// How long a large message waits for its turn.
const LARGE_PATIENCE: Duration = Duration::from_secs(10);

// Otherwise it would be claimed once more while it is on its way.
const _: () = assert!(LARGE_PATIENCE.as_secs() + post::TIMEOUT.as_secs() < WEBHOOK_HOLD.as_secs());

/// Makes the message of a webhook from how its request ended.
type Render = dyn Fn(&Webhook, Outcome) -> Result<Request<Bytes>, String> + Send + Sync;

/// Delivers the webhooks of the outbox.
pub struct Deliverer(Arc<Parts>);

/// What every delivery needs.
struct Parts {
    queue: Queue,
    poster: Poster,
    render: Box<Render>,
    large: Semaphore,
}

impl Deliverer {
    /// A deliverer that calls only what `egress` permits, with messages made by `render`.
    pub fn new(
        queue: Queue,
        egress: Egress,
        render: impl Fn(&Webhook, Outcome) -> Result<Request<Bytes>, String> + Send + Sync + 'static,
    ) -> Self {
        let large = Semaphore::new(LARGE_AT_ONCE);
        Self(Arc::new(Parts { queue, poster: Poster::new(egress), render: Box::new(render), large }))
    }

    /// Delivers until `stop`, then lets what is on its way arrive; the rest waits for the next start.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut moved = self.0.queue.events().moved();
        let mut on_way = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            moved.mark_unchanged();
            self.claim_due(&mut on_way).await;
            tokio::select! {
                () = &mut stop => break,
                Some(_) = on_way.join_next() => {} // another may be sent now
                () = signal_or(&mut moved, POLL) => {}
            }
        }
        on_way.join_all().await;
    }

    /// Claims what is due, up to [`AT_ONCE`], and starts its deliveries.
    async fn claim_due(&self, on_way: &mut JoinSet<()>) {
        while on_way.try_join_next().is_some() {}
        match self.0.queue.claim_webhooks(AT_ONCE - on_way.len()).await {
            Ok(webhooks) => {
                for webhook in webhooks {
                    on_way.spawn(deliver(self.0.clone(), webhook));
                }
            }
            Err(error) => tracing::warn!(%error, "webhooks could not be claimed"),
        }
    }
}

/// Makes one attempt and records it. An attempt that cannot be recorded is made again.
async fn deliver(parts: Arc<Parts>, webhook: Webhook) {
    let (request, attempt) = (webhook.request, webhook.attempt);
    let recorded = match send(&parts, &webhook).await {
        Ok(Sent::Delivered) => {
            tracing::debug!(%request, attempt, "webhook delivered");
            parts.queue.webhook_delivered(&webhook).await
        }
        Ok(Sent::NotYet) => parts.queue.webhook_not_sent(&webhook).await,
        Err(why) => {
            tracing::warn!(%request, attempt, why, "webhook not delivered");
            parts.queue.webhook_failed(&webhook, wait_after(attempt), &why).await
        }
    };
    if let Err(error) = recorded {
        tracing::warn!(%request, %error, "the delivery of a webhook was not recorded");
    }
}

/// What became of a message that nothing is wrong with.
enum Sent {
    /// The receiver has it.
    Delivered,
    /// Other large messages are on their way: it was not sent.
    NotYet,
}

async fn send(parts: &Parts, webhook: &Webhook) -> Result<Sent, String> {
    let message = message(parts, webhook).await?;
    if message.body().len() <= LARGE {
        return parts.poster.post(&webhook.url, message).await.map(|()| Sent::Delivered);
    }
    drop(message);
    let turn = tokio::time::timeout(LARGE_PATIENCE, parts.large.acquire()).await;
    let Ok(_permit) = turn else { return Ok(Sent::NotYet) };
    let message = self::message(parts, webhook).await?;
    parts.poster.post(&webhook.url, message).await.map(|()| Sent::Delivered)
}

async fn message(parts: &Parts, webhook: &Webhook) -> Result<Request<Bytes>, String> {
    let gone = |error: QueueError| format!("the result cannot be read: {error}");
    let outcome = parts.queue.outcome(webhook.request).await.map_err(gone)?;
    (parts.render)(webhook, outcome.ok_or("the request is not over")?)
}

/// How long to wait after a failed attempt; `None` after the last.
fn wait_after(attempt: i64) -> Option<Duration> {
    let index = usize::try_from(attempt).ok()?.checked_sub(1)?;
    RETRIES.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_retries_fill_two_hours() {
        let waits: Vec<_> = (1..=20).map_while(wait_after).collect();
        assert_eq!(waits.len(), 10);
        let all: Duration = waits.iter().sum();
        assert!((110..=120).contains(&(all.as_secs() / 60)), "{all:?}");
    }
}
