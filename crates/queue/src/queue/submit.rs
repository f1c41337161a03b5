//! Accepting and cancelling: the client's writes.

use super::clock::micros;
use super::finished::Finished;
use super::job::{FailureKind, NewRequest, RequestId};
use super::retention::stored;
use super::service_time::Moment;
use super::store::{Lock, Sql, Tx, for_update, query};
use super::{Failure, Origin, Queue, QueueError, idempotency, keys, turns, webhooks};
use crate::planted::{self, Bug};

/// What became of a submitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submission {
    /// Durable, with this many requests before it.
    Accepted {
        /// Its name.
        id: RequestId,
        /// Requests that start first.
        ahead: u64,
    },
    /// Too many wait already; nothing was stored.
    Full {
        /// How many wait.
        waiting: u64,
    },
    /// A client would wait for the result, and its key has as many active requests as its limit allows; nothing was
    /// stored.
    KeyBusy {
        /// The limit.
        limit: u32,
    },
    /// The client sent it before, and this is it; nothing new was stored.
    Known {
        /// Its name.
        id: RequestId,
    },
    /// Its idempotency key stands for another input; nothing was stored.
    KeyTaken,
}

/// What a cancellation achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It was waiting and will never run.
    Removed,
    /// It is running and stops at its next step.
    Requested,
    /// It was over already; or the client that went away was not the only one that wanted it.
    AlreadyDone,
    /// No such request.
    Unknown,
}

const COUNT_WAITING: &str = "SELECT count(*), count(CASE WHEN (priority, turn) <= ($1, $2) THEN 1 END)
    FROM requests WHERE state = 'waiting'";

/// So few places are given away one at a time on PostgreSQL: submissions that count at once do not see each other.
const LAST_PLACES: u64 = 64;

const STATE: Sql = for_update!("SELECT state, origin FROM requests WHERE id = $1");

const INSERT: &str = "INSERT INTO requests (id, endpoint, origin, priority, body, state, created_at,
        start_before, no_retry, api_key, idempotency_key, input_digest, result_life, forget, model, turn, accepted_at,
        client, traceparent)
    VALUES ($1, $2, $3, $4, $5, 'waiting', $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";

const INSERT_FAILED: &str = "INSERT INTO requests (id, endpoint, origin, priority, body, state, created_at,
        started_at, finished_at, failure, failure_message, failure_detail, api_key,
        idempotency_key, input_digest, erase_at, model, ended_at)
    VALUES ($1, $2, $3, $4, $5, 'done', $6, $6, $6, $7, $8, $9, $10, $11, $12, $15 + $13, $14, $15)";

pub(super) const CANCEL_DONE: &str = "UPDATE requests SET state = 'done', finished_at = $2, ended_at = $5,
        worker = NULL, lease_until = NULL, failure = $3, failure_message = $4
    WHERE id = $1 AND state = 'waiting'";

impl Queue {
    /// Accepts a request: it is durable when this returns.
    ///
    /// # Errors
    /// When the database refuses; nothing was accepted then.
    pub async fn submit(&self, new: &NewRequest) -> Result<Submission, QueueError> {
        let id = RequestId::new();
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        if let Some(known) = idempotency::find(&mut tx, new, self.is_shared()).await? {
            tx.commit().await?;
            return Ok(known);
        }
        if let (Origin::Direct, Some(key)) = (new.origin, &new.api_key)
            && let Some(limit) = keys::limit_reached(&mut tx, key).await?
        {
            return Ok(Submission::KeyBusy { limit });
        }
        let turn = turns::next(&mut tx, new.priority as i64, new.api_key.as_deref()).await?;
        let waiting = count_waiting(&mut tx, new, turn).await?;
        if let Some(full) = waiting.full(new) {
            return Ok(full);
        }
        query(INSERT)
            .bind(id.to_string())
            .bind(&new.endpoint)
            .bind(new.origin.word())
            .bind(new.priority as i64)
            .bind(new.body.to_string())
            .bind(now.date)
            .bind(new.options.start_within.map(|time| now.service + micros(time)))
            .bind(new.options.no_retry)
            .bind(&new.api_key)
            .bind(new.idempotency.as_ref().map(|given| &given.key))
            .bind(new.idempotency.as_ref().map(|given| &given.digest))
            .bind(stored(new.options.result_life))
            .bind(new.options.forget)
            .bind(&new.model)
            .bind(turn)
            .bind(now.service)
            .bind(&new.client)
            .bind(&new.traceparent)
            .execute(&mut tx)
            .await?;
        webhooks::add(&mut tx, id, new.webhook.as_ref()).await?;
        if planted::has(Bug::AnswerBeforeCommit) {
            planted::later(tx.commit());
        } else {
            tx.commit().await?;
        }
        self.events.wake_workers();
        Ok(Submission::Accepted { id, ahead: waiting.ahead })
    }

    /// Records a request that failed before it could wait: accepted, and over at once. A full queue takes none of these
    /// either: they take up the database like others.
    ///
    /// # Errors
    /// When the database refuses; nothing was accepted then.
    pub async fn submit_failed(&self, new: &NewRequest, failure: &Failure) -> Result<Submission, QueueError> {
        let id = RequestId::new();
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        if let Some(known) = idempotency::find(&mut tx, new, self.is_shared()).await? {
            tx.commit().await?;
            return Ok(known);
        }
        if let Some(full) = count_waiting(&mut tx, new, 0).await?.full(new) {
            return Ok(full);
        }
        query(INSERT_FAILED)
            .bind(id.to_string())
            .bind(&new.endpoint)
            .bind(new.origin.word())
            .bind(new.priority as i64)
            .bind(new.body.to_string())
            .bind(now.date)
            .bind(failure.kind.word())
            .bind(&failure.message)
            .bind(failure.detail.as_ref().map(ToString::to_string))
            .bind(&new.api_key)
            .bind(new.idempotency.as_ref().map(|given| &given.key))
            .bind(new.idempotency.as_ref().map(|given| &given.digest))
            .bind(stored(new.options.result_life.filter(|_| new.options.forget)))
            .bind(&new.model)
            .bind(now.service)
            .execute(&mut tx)
            .await?;
        webhooks::add(&mut tx, id, new.webhook.as_ref()).await?;
        let finished = Finished::read(&mut tx, id).await?.of_client(new.client.as_deref());
        tx.commit().await?;
        finished.log();
        self.events.wake_waiters();
        Ok(Submission::Accepted { id, ahead: 0 })
    }

    /// Cancels: a waiting request never runs, a running one stops at its next step. A client that is gone
    /// ends only what nobody submitted.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cancel(&self, id: RequestId, kind: FailureKind) -> Result<CancelAnswer, QueueError> {
        let mut tx = self.writer.begin().await?;
        let state = query(STATE).bind(id.to_string()).fetch_optional(&mut tx).await?;
        let Some(state) = state else { return Ok(CancelAnswer::Unknown) };
        let is_wanted =
            kind == FailureKind::ClientGone && state.try_get::<&str, _>(1)? == Origin::Queued.word();
        let answer = match state.try_get::<&str, _>(0)? {
            _ if is_wanted => CancelAnswer::AlreadyDone,
            "waiting" => CancelAnswer::Removed,
            "running" => CancelAnswer::Requested,
            _ => CancelAnswer::AlreadyDone,
        };
        let mut finished = None;
        match answer {
            CancelAnswer::Removed => {
                let now = self.moment(&mut tx).await?;
                cancel_waiting(&mut tx, id, kind, now).await?;
                finished = Some(Finished::read(&mut tx, id).await?);
            }
            CancelAnswer::Requested => {
                let stop = query("UPDATE requests SET cancel_requested = TRUE WHERE id = $1");
                stop.bind(id.to_string()).execute(&mut tx).await?;
            }
            // Its row is unlocked when this returns: rolled back, it would be so later, and a claim would pass it by.
            CancelAnswer::AlreadyDone | CancelAnswer::Unknown => {
                tx.commit().await?;
                return Ok(answer);
            }
        }
        tx.commit().await?;
        finished.iter().for_each(Finished::log);
        self.events.wake_workers();
        self.events.wake_waiters();
        Ok(answer)
    }
}

/// Requests that wait.
struct Waiting {
    all: u64,
    /// Those that start before the new one.
    ahead: u64,
}

impl Waiting {
    /// The refusal of a request when as many wait as it allows.
    fn full(&self, new: &NewRequest) -> Option<Submission> {
        let is_full = new.max_waiting.is_some_and(|most| self.all >= most);
        is_full.then_some(Submission::Full { waiting: self.all })
    }
}

/// Counts them for a request with this turn; where few places are left on PostgreSQL, in the order of the submissions.
async fn count_waiting(tx: &mut Tx, new: &NewRequest, turn: i64) -> Result<Waiting, QueueError> {
    let waiting = count(tx, new, turn).await?;
    let is_nearly_full =
        new.max_waiting.is_some_and(|most| waiting.all < most && most - waiting.all <= LAST_PLACES);
    if !is_nearly_full {
        return Ok(waiting);
    }
    tx.lock(Lock::LastPlaces).await?;
    count(tx, new, turn).await
}

async fn count(tx: &mut Tx, new: &NewRequest, turn: i64) -> Result<Waiting, QueueError> {
    let row = query(COUNT_WAITING).bind(new.priority as i64).bind(turn).fetch_one(tx).await?;
    let (all, ahead): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Waiting { all: all.unsigned_abs(), ahead: ahead.unsigned_abs() })
}

/// Ends a waiting request as cancelled.
pub(super) async fn cancel_waiting(
    tx: &mut Tx,
    id: RequestId,
    kind: FailureKind,
    now: Moment,
) -> Result<(), QueueError> {
    query(CANCEL_DONE)
        .bind(id.to_string())
        .bind(now.date)
        .bind(kind.word())
        .bind(kind.message())
        .bind(now.service)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
