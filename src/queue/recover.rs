//! Putting requests back after their worker was lost.

use super::claim::{add_log, end_failed};
use super::job::{Claim, FailureKind, Level, Origin};
use super::{Failure, MAX_DEATHS, Queue, QueueError};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

/// Whose claims are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost<'a> {
    /// This worker died on its own: its requests count a death.
    Died(&'a str),
    /// This worker was stopped on purpose.
    Stopped(&'a str),
    /// Claims whose lease ran out: their workers count as dead.
    Expired,
    /// Every claim and every waiting client: the process that held the data directory is gone.
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

const RUNNING: &str = "SELECT id, attempt, deaths, cancel_requested, origin, no_retry FROM requests
    WHERE state = 'running' AND (?1 IS NULL OR worker = ?1) AND (?2 IS NULL OR lease_until < ?2)";

const EXPIRED: &str = "SELECT 1 FROM requests WHERE state = 'running' AND lease_until < ?1 LIMIT 1";

const BACK: &str = "UPDATE requests SET state = 'waiting', worker = NULL, lease_until = NULL, deaths = ?3
    WHERE id = ?1 AND attempt = ?2";

const DROP_DIRECT: &str = "UPDATE requests SET state = 'done', finished_at = ?1, failure = ?2,
        failure_message = ?3
    WHERE state = 'waiting' AND origin = 'direct'";

impl Queue {
    /// Voids the claims whose lease ran out; cheap when there is none.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn reclaim_expired(&self) -> Result<Reclaimed, QueueError> {
        let expired = sqlx::query(EXPIRED).bind(self.now_us()).fetch_optional(&self.reader).await?;
        if expired.is_some() { self.reclaim(Lost::Expired).await } else { Ok(Reclaimed::default()) }
    }

    /// Voids claims: their requests keep their place in the queue.
    ///
    /// # Errors
    /// When the database refuses; nothing changed then.
    pub async fn reclaim(&self, lost: Lost<'_>) -> Result<Reclaimed, QueueError> {
        let now = self.now_us();
        let (worker, before) = match lost {
            Lost::Died(worker) | Lost::Stopped(worker) => (Some(worker), None),
            Lost::Expired => (None, Some(now)),
            Lost::Everything => (None, None),
        };
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let rows = sqlx::query(RUNNING).bind(worker).bind(before).fetch_all(&mut *tx).await?;
        let mut done = Reclaimed::default();
        for row in &rows {
            let orphan = Orphan::of(row)?;
            match orphan.fate(lost) {
                Fate::Back { deaths } => {
                    put_back(&mut tx, &orphan.claim, deaths, lost, now).await?;
                    done.waiting += 1;
                }
                Fate::End(kind) => {
                    end_failed(&mut tx, &orphan.claim, &Failure::of(kind), now).await?;
                    done.ended += 1;
                }
            }
        }
        if lost == Lost::Everything {
            done.ended += drop_direct(&mut tx, now).await?;
        }
        tx.commit().await?;
        self.events.wake_workers();
        self.events.wake_waiters();
        Ok(done)
    }
}

/// A claim whose worker is gone.
struct Orphan {
    claim: Claim,
    deaths: i64,
    cancelled: bool,
    origin: Origin,
    no_retry: bool,
}

/// What to do with it.
enum Fate {
    Back { deaths: i64 },
    End(FailureKind),
}

impl Orphan {
    fn of(row: &SqliteRow) -> Result<Self, QueueError> {
        let id: &str = row.try_get("id")?;
        let claim = Claim {
            id: id.parse().map_err(|_| QueueError::Corrupt(format!("the request id {id:?}")))?,
            attempt: row.try_get("attempt")?,
            endpoint: String::new(),
            body: Value::Null,
        };
        Ok(Self {
            claim,
            deaths: row.try_get("deaths")?,
            cancelled: row.try_get("cancel_requested")?,
            origin: Origin::from_word(row.try_get("origin")?)?,
            no_retry: row.try_get("no_retry")?,
        })
    }

    fn fate(&self, lost: Lost<'_>) -> Fate {
        let deaths = match lost {
            Lost::Died(_) | Lost::Expired => self.deaths + 1,
            Lost::Stopped(_) | Lost::Everything => self.deaths,
        };
        if self.cancelled {
            Fate::End(FailureKind::Cancelled)
        } else if deaths >= MAX_DEATHS || (self.no_retry && !matches!(lost, Lost::Stopped(_))) {
            Fate::End(FailureKind::WorkerLost)
        } else if lost == Lost::Everything && self.origin == Origin::Direct {
            Fate::End(FailureKind::ClientGone)
        } else {
            Fate::Back { deaths }
        }
    }
}

async fn put_back(
    tx: &mut Transaction<'_, Sqlite>,
    claim: &Claim,
    deaths: i64,
    lost: Lost<'_>,
    now_us: i64,
) -> Result<(), QueueError> {
    sqlx::query(BACK).bind(claim.id.to_string()).bind(claim.attempt).bind(deaths).execute(&mut **tx).await?;
    let line = match lost {
        Lost::Died(_) => "the worker died; the request starts again",
        Lost::Expired => "the worker fell silent; the request starts again",
        Lost::Stopped(_) | Lost::Everything => "the server was stopped; the request starts again",
    };
    add_log(tx, claim.id, now_us, Level::Warn, line).await
}

async fn drop_direct(tx: &mut Transaction<'_, Sqlite>, now_us: i64) -> Result<u64, QueueError> {
    let gone = FailureKind::ClientGone;
    let done = sqlx::query(DROP_DIRECT)
        .bind(now_us)
        .bind(gone.word())
        .bind(gone.message())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected())
}
