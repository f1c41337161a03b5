//! What an operator looks at: requests that are not over, those that failed lately, and the workers.

use super::job::{FailureKind, Origin, RequestId};
use super::read::timestamp;
use super::store::{Row, query};
use super::{Queue, QueueError};
use jiff::Timestamp;
use std::time::Duration;

/// A request that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRequest {
    /// Its id.
    pub id: RequestId,
    /// As the client wrote it.
    pub endpoint: String,
    /// Id of the key that it came with, if that was one of the table.
    pub api_key: Option<String>,
    /// How the client waits for it.
    pub origin: Origin,
    /// Of [`super::Priority`].
    pub priority: i64,
    /// The worker that runs it; `None`: it waits.
    pub worker: Option<String>,
    /// How often it was started.
    pub attempt: i64,
    /// Its client cancelled it, and the worker has not stopped yet.
    pub is_cancelled: bool,
    /// Since it was accepted.
    pub age: Duration,
    /// Since the attempt that runs was started.
    pub running: Option<Duration>,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRequest {
    /// Its id.
    pub id: RequestId,
    /// As the client wrote it.
    pub endpoint: String,
    /// Id of the key that it came with, if that was one of the table.
    pub api_key: Option<String>,
    /// Why.
    pub kind: FailureKind,
    /// The same for people.
    pub message: String,
    /// When it failed.
    pub at: Timestamp,
}

/// A worker that reported lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveWorker {
    /// Its id.
    pub id: String,
    /// `cpu`, or `cuda:N`.
    pub device: String,
    /// It claims requests; otherwise it loads a model.
    pub is_ready: bool,
    /// Models that it has loaded.
    pub models: Vec<String>,
    /// Since its first report.
    pub age: Duration,
    /// Since its last report.
    pub silence: Duration,
}

macro_rules! open {
    ($state:literal) => {
        concat!(
            "SELECT id, endpoint, api_key, origin, priority, worker, attempt, cancel_requested, created_at, started_at
            FROM requests WHERE state = '",
            $state,
            "' ORDER BY priority, turn, seq LIMIT $1"
        )
    };
}

const RUNNING: &str = open!("running");

const WAITING: &str = open!("waiting");

// Of the requests that ended last some are searched: where hardly any fail, it would be all of them.
const FAILED: &str = "SELECT * FROM (
        SELECT id, endpoint, api_key, failure, failure_message, finished_at FROM requests
        WHERE state = 'done' ORDER BY finished_at DESC LIMIT 1000
    ) AS ended
    WHERE failure IS NOT NULL AND failure NOT IN ('cancelled', 'client_gone') ORDER BY finished_at DESC LIMIT $1";

const WORKERS: &str = "SELECT id, device, state, models, started_at, beat_at FROM workers
    WHERE beat_at BETWEEN $1 AND $2 ORDER BY device, started_at, id";

impl Queue {
    /// Requests that run, and then those that wait in the order in which they start; at most so many of each.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open_requests(&self, most: u32) -> Result<Vec<OpenRequest>, QueueError> {
        let now = self.moment(&self.reader).await?.date;
        let mut found = Vec::new();
        for (statement, runs) in [(RUNNING, true), (WAITING, false)] {
            let rows = query(statement).bind(i64::from(most)).fetch_all(&self.reader).await?;
            for row in &rows {
                found.push(open_of(row, runs, now)?);
            }
        }
        Ok(found)
    }

    /// Requests that failed lately and were not cancelled, the last first; at most so many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn failed_requests(&self, most: u32) -> Result<Vec<FailedRequest>, QueueError> {
        let rows = query(FAILED).bind(i64::from(most)).fetch_all(&self.reader).await?;
        rows.iter().map(failed_of).collect()
    }

    /// Workers whose last heartbeat is at most `age` old, by their devices.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn workers(&self, age: Duration) -> Result<Vec<LiveWorker>, QueueError> {
        let heartbeats = self.heartbeats_within(&self.reader, age).await?;
        let now = self.moment(&self.reader).await?.lease;
        let rows = query(WORKERS).bind(heartbeats.from).bind(heartbeats.to).fetch_all(&self.reader).await?;
        let workers = rows.iter().map(|row| worker_of(row, now)).collect::<Result<Vec<_>, _>>()?;
        Ok(workers.into_iter().filter(|worker| !self.silent.contains(&worker.id)).collect())
    }
}

fn open_of(row: &Row, runs: bool, now: i64) -> Result<OpenRequest, QueueError> {
    let started: Option<i64> = row.try_get("started_at")?;
    Ok(OpenRequest {
        id: RequestId::of_row(row)?,
        endpoint: row.try_get("endpoint")?,
        api_key: row.try_get("api_key")?,
        origin: Origin::from_word(row.try_get("origin")?)?,
        priority: row.try_get("priority")?,
        // That of the last attempt stays while it waits for the next.
        worker: row.try_get::<Option<String>, _>("worker")?.filter(|_| runs),
        attempt: row.try_get("attempt")?,
        is_cancelled: row.try_get("cancel_requested")?,
        age: since(row.try_get("created_at")?, now),
        running: started.filter(|_| runs).map(|at| since(at, now)),
    })
}

fn failed_of(row: &Row) -> Result<FailedRequest, QueueError> {
    let kind = FailureKind::from_word(row.try_get("failure")?)?;
    let message = row.try_get::<Option<String>, _>("failure_message")?.filter(|message| !message.is_empty());
    Ok(FailedRequest {
        id: RequestId::of_row(row)?,
        endpoint: row.try_get("endpoint")?,
        api_key: row.try_get("api_key")?,
        kind,
        message: message.unwrap_or_else(|| kind.message().to_owned()),
        at: timestamp(row.try_get("finished_at")?)?,
    })
}

fn worker_of(row: &Row, now: i64) -> Result<LiveWorker, QueueError> {
    let models: &str = row.try_get("models")?;
    Ok(LiveWorker {
        id: row.try_get("id")?,
        device: row.try_get("device")?,
        is_ready: row.try_get::<&str, _>("state")? == "ready",
        models: serde_json::from_str(models)
            .map_err(|error| QueueError::Corrupt(format!("the models of a worker: {error}")))?,
        age: since(row.try_get("started_at")?, now),
        silence: since(row.try_get("beat_at")?, now),
    })
}

/// From a time to another, both in microseconds of one clock. A date that was set back makes nothing negative.
fn since(earlier: i64, now: i64) -> Duration {
    Duration::from_micros(u64::try_from(now.saturating_sub(earlier)).unwrap_or_default())
}
