//! Putting requests back after their worker was lost, and charging the death to the one that may have caused it.
//!
//! A worker works on several requests, but its engine on one. That one is marked before the engine begins, so
//! that the mark is there even if the whole machine goes down with it.
//!
//! Deaths count while the request gets no further: one after which a state of more steps is stored than at the death
//! before is the first of a new series. That number only grows, and to the request's number of steps at most, so a request
//! costs fewer than [`MAX_DEATHS`] workers for each of its steps, and each such step a second of work.

use super::claim::{add_log, end_failed};
use super::clock::LEASE;
use super::finished::Finished;
use super::job::{Claim, FailureKind, Level, Origin};
use super::lease::Span;
use super::service_time::Moment;
use super::store::{Row, Sql, Tx, for_update, query};
use super::{Failure, MAX_DEATHS, Queue, QueueError, RequestId, Verdict};
use crate::planted::{self, Bug};
use serde_json::Value;

/// Whose claims are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost<'a> {
    /// This worker died on its own: the request that it is charged to counts a death.
    Died(&'a str),
    /// This worker was stopped through no fault of its requests.
    Stopped(&'a str),
    /// Claims whose lease ran out: their workers count as dead.
    Expired,
    /// Every claim and every waiting client: the process that held the data directory is gone, and the workers count as
    /// dead. A worker that outlives its server puts its requests back as [`Lost::Stopped`].
    Everything,
}

/// What a reclaim did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// Requests back in their place.
    pub waiting: u64,
    /// Requests ended: cancelled before, or too many workers died.
    pub ended: u64,
}

const RUNNING: Sql = for_update!(
    "SELECT id, attempt, deaths, charged, cancel_requested, origin, no_retry,
        coalesce((SELECT progress > progress_at_death FROM states WHERE request = requests.id), FALSE) AS progressed
    FROM requests
    WHERE state = 'running' AND ($1 IS NULL OR worker = $1)
        AND ($2 IS NULL OR lease_until NOT BETWEEN $2 AND $3) ORDER BY seq"
);

const CHARGE: &str = "UPDATE requests SET charged = TRUE WHERE id = $1 AND attempt = $2 AND state = 'running'
    RETURNING cancel_requested, EXISTS
        (SELECT 1 FROM previews WHERE request = requests.id AND watched_until > $3), worker";

const CHARGE_NO_OTHER: &str = "UPDATE requests SET charged = FALSE
    WHERE worker = $1 AND state = 'running' AND charged AND id <> $2";

const FORGET: &str = "DELETE FROM workers WHERE id = $1";

const SILENCE_ALL: &str = "UPDATE workers SET beat_at = $1 WHERE beat_at > $1";

// A request whose worker was stopped had started in time.
const BACK: &str = "UPDATE requests SET state = 'waiting', worker = NULL, lease_until = NULL, deaths = $3,
        start_before = CASE WHEN $4 THEN NULL ELSE start_before END
    WHERE id = $1 AND attempt = $2";

const NOTE_PROGRESS: &str = "UPDATE states SET progress_at_death = progress WHERE request = $1";

const DROP_DIRECT: &str = "UPDATE requests SET state = 'done', finished_at = $1, ended_at = $4,
        failure = $2, failure_message = $3
    WHERE state = 'waiting' AND origin = 'direct' RETURNING id";

impl Queue {
    /// Records that the worker's engine is about to work on the request: if the worker dies, this one is charged, and none
    /// of the worker's other claims. Durable when this returns.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn charge(&self, claim: &Claim) -> Result<Verdict, QueueError> {
        let mut tx = self.writer.begin().await?;
        let now = self.service_us(&mut tx).await?;
        let charge = query(CHARGE).bind(claim.id.to_string()).bind(claim.attempt).bind(now);
        let Some(row) = charge.fetch_optional(&mut tx).await? else { return Ok(Verdict::Fenced) };
        let (verdict, worker) = (Verdict::of(&row)?, row.try_get::<String, _>("worker")?);
        query(CHARGE_NO_OTHER).bind(worker).bind(claim.id.to_string()).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(verdict)
    }

    /// Voids claims: their requests keep their place in the queue. A worker that is gone is forgotten.
    ///
    /// # Errors
    /// When the database refuses; nothing changed then.
    pub async fn reclaim(&self, lost: Lost<'_>) -> Result<Reclaimed, QueueError> {
        if planted::has(Bug::NoReclaim) {
            return Ok(Reclaimed::default());
        }
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        let (worker, valid) = match lost {
            Lost::Died(worker) | Lost::Stopped(worker) => (Some(worker), None),
            Lost::Expired => (None, Some(self.valid_leases(&mut tx).await?)),
            Lost::Everything => (None, None),
        };
        let rows = running(&mut tx, worker, valid).await?;
        let (mut done, mut finished) = (Reclaimed::default(), Vec::new());
        for row in &rows {
            let orphan = Orphan::of(row)?;
            match orphan.fate(lost) {
                Fate::Back { deaths } => {
                    put_back(&mut tx, &orphan, deaths, lost, now).await?;
                    done.waiting += 1;
                }
                Fate::End(failure) => {
                    finished.extend(end_failed(&mut tx, &orphan.claim, &failure, now).await?);
                    done.ended += 1;
                }
            }
        }
        if let Some(worker) = worker {
            query(FORGET).bind(worker).execute(&mut tx).await?;
        }
        if lost == Lost::Everything {
            let dropped = drop_direct(&mut tx, now).await?;
            done.ended += dropped.len() as u64;
            finished.extend(dropped);
            // Those that are alive after all send a heartbeat soon.
            let heartbeats = self.heartbeats_within(&mut tx, LEASE).await?;
            query(SILENCE_ALL).bind(heartbeats.from).execute(&mut tx).await?;
        }
        tx.commit().await?;
        finished.iter().for_each(Finished::log);
        self.note_lost(lost);
        self.events.wake_workers();
        self.events.wake_waiters();
        Ok(done)
    }
}

/// The claims of a worker, or those whose lease is not valid, or all.
async fn running(tx: &mut Tx, worker: Option<&str>, valid: Option<Span>) -> Result<Vec<Row>, QueueError> {
    let (from, to) = (valid.map(|span| span.from), valid.map(|span| span.to));
    query(RUNNING).bind(worker).bind(from).bind(to).fetch_all(&mut *tx).await
}

/// A claim whose worker is gone.
struct Orphan {
    claim: Claim,
    deaths: i64,
    /// The worker's engine was working on it.
    charged: bool,
    /// It has got further than at the last death that was charged to it.
    progressed: bool,
    cancelled: bool,
    origin: Origin,
    no_retry: bool,
}

/// What to do with it.
enum Fate {
    Back { deaths: i64 },
    End(Failure),
}

impl Orphan {
    fn of(row: &Row) -> Result<Self, QueueError> {
        let claim = Claim {
            id: RequestId::of_row(row)?,
            attempt: row.try_get("attempt")?,
            endpoint: String::new(),
            body: Value::Null,
            traceparent: None,
        };
        Ok(Self {
            claim,
            deaths: row.try_get("deaths")?,
            charged: row.try_get("charged")?,
            progressed: row.try_get("progressed")?,
            cancelled: row.try_get("cancel_requested")?,
            origin: Origin::from_word(row.try_get("origin")?)?,
            no_retry: row.try_get("no_retry")?,
        })
    }

    /// Whether this loss of the worker is a death that counts against the request.
    fn is_charged(&self, lost: Lost<'_>) -> bool {
        self.charged && !matches!(lost, Lost::Stopped(_))
    }

    fn fate(&self, lost: Lost<'_>) -> Fate {
        let is_stopped = matches!(lost, Lost::Stopped(_));
        let is_charged = self.is_charged(lost);
        let before = if is_charged && self.progressed { 0 } else { self.deaths };
        let deaths = before + i64::from(is_charged);
        if self.cancelled {
            Fate::End(Failure::of(FailureKind::Cancelled))
        } else if is_charged && deaths >= MAX_DEATHS {
            Fate::End(worker_lost(format!(
                "the worker died {deaths} times while its engine worked on this request; it is not tried again"
            )))
        } else if self.no_retry && !is_stopped {
            Fate::End(worker_lost("the worker died, and the client asked for no second try".into()))
        } else if lost == Lost::Everything && self.origin == Origin::Direct {
            Fate::End(Failure::of(FailureKind::ClientGone))
        } else {
            Fate::Back { deaths }
        }
    }
}

fn worker_lost(message: String) -> Failure {
    Failure { kind: FailureKind::WorkerLost, message, detail: None }
}

async fn put_back(
    tx: &mut Tx,
    orphan: &Orphan,
    deaths: i64,
    lost: Lost<'_>,
    now: Moment,
) -> Result<(), QueueError> {
    let claim = &orphan.claim;
    let has_started = matches!(lost, Lost::Stopped(_));
    let back = query(BACK).bind(claim.id.to_string()).bind(claim.attempt).bind(deaths).bind(has_started);
    back.execute(&mut *tx).await?;
    if orphan.is_charged(lost) {
        query(NOTE_PROGRESS).bind(claim.id.to_string()).execute(&mut *tx).await?;
    }
    let line = match lost {
        Lost::Died(_) => "the worker died; the request is tried again",
        Lost::Expired => "the worker fell silent; the request is tried again",
        Lost::Stopped(_) | Lost::Everything => "the server was stopped; the request is tried again",
    };
    add_log(tx, claim.id, now, Level::Warn, line).await
}

async fn drop_direct(tx: &mut Tx, now: Moment) -> Result<Vec<Finished>, QueueError> {
    let gone = FailureKind::ClientGone;
    let rows = query(DROP_DIRECT)
        .bind(now.date)
        .bind(gone.word())
        .bind(gone.message())
        .bind(now.service)
        .fetch_all(&mut *tx)
        .await?;
    let mut finished = Vec::new();
    for row in &rows {
        finished.push(Finished::read(tx, RequestId::of_row(row)?).await?);
    }
    Ok(finished)
}
