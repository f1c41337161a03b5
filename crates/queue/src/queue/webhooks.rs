//! The webhook outbox: which receiver is called when a request ends, when next, and how often it was tried.
//!
//! A webhook becomes due in the transaction that ends its request (a trigger of the schema), so
//! none is lost. A claim on one ends after a while: if the process that claimed it dies, it is sent
//! again, so a receiver is called at least once.

use super::claim::add_log;
use super::clock::micros;
use super::job::{Level, RequestId};
use super::store::{Lock, Row, Tx, query};
use super::{Observation, Queue, QueueError, counters};
use crate::planted::{self, Bug};
use jiff::Timestamp;
use std::time::Duration;

/// How long a claimed webhook is left alone; longer than an attempt and what it waits for.
pub const WEBHOOK_HOLD: Duration = Duration::from_secs(30);

/// Attempts that may be on their way to one receiver, so that a dead one does not block others.
const PER_RECEIVER: i64 = 4;

/// The webhook of a new request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// Where to send the message.
    pub url: String,
    /// The URL's host and port.
    pub receiver: String,
    /// How the client reached the server; opaque to the queue.
    pub origin: String,
}

/// A message to send, claimed by whoever holds this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The request that ended.
    pub request: RequestId,
    /// Where to send the message.
    pub url: String,
    /// How the client reached the server when it submitted.
    pub origin: String,
    /// 1 for the first try.
    pub attempt: i64,
    /// When it was claimed.
    pub at: Timestamp,
}

const INSERT: &str = "INSERT INTO webhooks (request, url, receiver, origin, state, next_attempt_at)
    SELECT id, $2, $3, $4, CASE state WHEN 'done' THEN 'due' ELSE 'waiting' END, ended_at
    FROM requests WHERE id = $1";

const ANY_DUE: &str = "SELECT 1 FROM webhooks WHERE state = 'due' AND next_attempt_at <= $1
    AND (held_until IS NULL OR held_until <= $1) LIMIT 1";

const CLAIM: &str = "UPDATE webhooks SET attempts = attempts + 1, held_until = $2
    WHERE request IN (
        SELECT request FROM (
            SELECT request, next_attempt_at,
                row_number() OVER (PARTITION BY receiver ORDER BY next_attempt_at) AS place,
                (SELECT count(*) FROM webhooks AS held
                    WHERE held.state = 'due' AND held.receiver = free.receiver AND held.held_until > $1) AS busy
            FROM webhooks AS free WHERE state = 'due' AND next_attempt_at <= $1
                AND (held_until IS NULL OR held_until <= $1)
        ) AS due WHERE place + busy <= $3 ORDER BY next_attempt_at LIMIT $4
    ) RETURNING request, url, origin, attempts";

const SETTLE: &str = "UPDATE webhooks SET state = $3, held_until = NULL
    WHERE request = $1 AND attempts = $2 AND state = 'due'";

const AGAIN: &str = "UPDATE webhooks SET next_attempt_at = $3, held_until = NULL
    WHERE request = $1 AND attempts = $2 AND state = 'due'";

const NOT_SENT: &str = "UPDATE webhooks SET attempts = attempts - 1, held_until = NULL
    WHERE request = $1 AND attempts = $2 AND state = 'due'";

impl Queue {
    /// Claims up to `room` webhooks that are due; a receiver gets no more than its share.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn claim_webhooks(&self, room: usize) -> Result<Vec<Webhook>, QueueError> {
        let now = self.service_us(&self.reader).await?;
        let due = query(ANY_DUE).bind(now).fetch_optional(&self.reader).await?;
        if due.is_none() || room == 0 {
            return Ok(Vec::new());
        }
        let mut tx = self.writer.begin().await?;
        tx.lock(Lock::Webhooks).await?;
        let rows = query(CLAIM)
            .bind(now)
            .bind(now + micros(WEBHOOK_HOLD))
            .bind(PER_RECEIVER)
            .bind(i64::try_from(room).unwrap_or(i64::MAX))
            .fetch_all(&mut tx)
            .await?;
        tx.commit().await?;
        let at = self.now();
        rows.iter().map(|row| webhook_of(row, at)).collect()
    }

    /// Frees what a process that is gone had claimed: only for who knows that it is gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn release_webhooks(&self) -> Result<(), QueueError> {
        let release = "UPDATE webhooks SET held_until = NULL WHERE state = 'due'";
        query(release).execute(&self.writer).await?;
        Ok(())
    }

    /// Records that the receiver has it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn webhook_delivered(&self, webhook: &Webhook) -> Result<(), QueueError> {
        let mut tx = self.writer.begin().await?;
        let settled = query(SETTLE).bind(webhook.request.to_string()).bind(webhook.attempt).bind("delivered");
        settled.execute(&mut tx).await?;
        counters::count(&mut tx, &Observation::webhook_attempt("delivered")).await?;
        tx.commit().await
    }

    /// Gives a claimed webhook back as if it had not been claimed: nothing was sent.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn webhook_not_sent(&self, webhook: &Webhook) -> Result<(), QueueError> {
        let back = query(NOT_SENT).bind(webhook.request.to_string()).bind(webhook.attempt);
        back.execute(&self.writer).await?;
        Ok(())
    }

    /// Records that the receiver does not have it: to be tried again after `again`, or given up.
    /// Giving up is noted in the request's log.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn webhook_failed(
        &self,
        webhook: &Webhook,
        again: Option<Duration>,
        why: &str,
    ) -> Result<(), QueueError> {
        if planted::has(Bug::WebhookNotRetried) {
            return self.webhook_delivered(webhook).await;
        }
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        let update = match again {
            Some(delay) => query(AGAIN)
                .bind(webhook.request.to_string())
                .bind(webhook.attempt)
                .bind(now.service + micros(delay)),
            None => query(SETTLE).bind(webhook.request.to_string()).bind(webhook.attempt).bind("given_up"),
        };
        let done = update.execute(&mut tx).await?;
        let outcome = if again.is_some() { "failed" } else { "given_up" };
        counters::count(&mut tx, &Observation::webhook_attempt(outcome)).await?;
        if again.is_none() && done == 1 {
            let line = format!("the webhook was given up after {} attempts: {why}", webhook.attempt);
            add_log(&mut tx, webhook.request, now, Level::Error, &line).await?;
        }
        tx.commit().await
    }
}

/// Stores the webhook, in the transaction that stores the request.
pub(super) async fn add(tx: &mut Tx, id: RequestId, webhook: Option<&NewWebhook>) -> Result<(), QueueError> {
    let Some(NewWebhook { url, receiver, origin }) = webhook else { return Ok(()) };
    query(INSERT).bind(id.to_string()).bind(url).bind(receiver).bind(origin).execute(&mut *tx).await?;
    Ok(())
}

fn webhook_of(row: &Row, at: Timestamp) -> Result<Webhook, QueueError> {
    let request: &str = row.try_get("request")?;
    Ok(Webhook {
        request: request.parse().map_err(|_| QueueError::Corrupt(format!("the request id {request:?}")))?,
        url: row.try_get("url")?,
        origin: row.try_get("origin")?,
        attempt: row.try_get("attempts")?,
        at,
    })
}
