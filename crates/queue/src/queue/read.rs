//! Looking without touching: what pollers, streams and result readers ask.

use super::job::{Ended, FailureKind, Level, LogLine, Outcome, Phase, RequestId, Status};
use super::positions::place_of;
use super::store::{Row, query};
use super::{Failure, Queue, QueueError};
use jiff::Timestamp;
use serde_json::Value;

const STATUS: &str = "SELECT endpoint, state, attempt, created_at, started_at, finished_at, failure,
    failure_message, priority, turn, seq FROM requests WHERE id = $1";

const OUTCOME: &str = "SELECT output, failure, failure_message, failure_detail, worker,
        erased_at IS NOT NULL OR coalesce(erase_at <= $2, FALSE) AS erased
    FROM requests WHERE id = $1 AND state = 'done'";

const ENDED_BYTES: &str =
    "SELECT CAST(coalesce(octet_length(output), 0) AS BIGINT) FROM requests WHERE id = $1 AND state = 'done'";

const LOGS: &str = "SELECT seq, at, level, message FROM request_logs
    WHERE request = $1 AND seq > $2 ORDER BY seq";

impl Queue {
    /// Where a request is; `None` when there is no such request.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn status(&self, id: RequestId) -> Result<Option<Status>, QueueError> {
        let row = query(STATUS).bind(id.to_string()).fetch_optional(&self.reader).await?;
        let Some(row) = row else { return Ok(None) };
        let mut status = status_of(id, &row)?;
        if let Phase::Waiting { ahead } = &mut status.phase {
            *ahead = self.ahead(place_of(&row)?).await?;
        }
        Ok(Some(status))
    }

    /// How a request ended; `None` while it has not, or when there is no such request.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn outcome(&self, id: RequestId) -> Result<Option<Outcome>, QueueError> {
        Ok(self.ended(id).await?.map(|ended| ended.outcome))
    }

    /// The end of a request; `None` while it has none, or when there is no such request.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn ended(&self, id: RequestId) -> Result<Option<Ended>, QueueError> {
        let row = query(OUTCOME)
            .bind(id.to_string())
            .bind(self.service_us(&self.reader).await?)
            .fetch_optional(&self.reader)
            .await?;
        row.map(|row| Ok(Ended { outcome: outcome_of(&row)?, worker: row.try_get("worker")? })).transpose()
    }

    /// Bytes of the output of a request that has ended, without reading it: 0 of one that has none. `None` while it has not
    /// ended, or when there is no such request.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn ended_bytes(&self, id: RequestId) -> Result<Option<u64>, QueueError> {
        let row = query(ENDED_BYTES).bind(id.to_string()).fetch_optional(&self.reader).await?;
        row.map(|row| Ok(row.try_get::<i64, _>(0)?.unsigned_abs())).transpose()
    }

    /// The request's log lines after the line `after`; 0 for all.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn logs(&self, id: RequestId, after: i64) -> Result<Vec<LogLine>, QueueError> {
        let rows = query(LOGS).bind(id.to_string()).bind(after).fetch_all(&self.reader).await?;
        rows.iter().map(line_of).collect()
    }
}

/// What the row says; a place in the queue is not in it.
fn status_of(id: RequestId, row: &Row) -> Result<Status, QueueError> {
    let phase = match row.try_get::<&str, _>("state")? {
        "waiting" => Phase::Waiting { ahead: 0 },
        "running" => Phase::Running,
        "done" => Phase::Done { failure: failure_of(row)? },
        other => return Err(QueueError::Corrupt(format!("the unknown state {other:?}"))),
    };
    Ok(Status {
        id,
        endpoint: row.try_get("endpoint")?,
        phase,
        attempt: row.try_get("attempt")?,
        created_at: timestamp(row.try_get("created_at")?)?,
        started_at: row.try_get::<Option<i64>, _>("started_at")?.map(timestamp).transpose()?,
        finished_at: row.try_get::<Option<i64>, _>("finished_at")?.map(timestamp).transpose()?,
    })
}

fn failure_of(row: &Row) -> Result<Option<(FailureKind, String)>, QueueError> {
    let Some(word) = row.try_get::<Option<&str>, _>("failure")? else { return Ok(None) };
    let kind = FailureKind::from_word(word)?;
    let message = row.try_get::<Option<String>, _>("failure_message")?.filter(|message| !message.is_empty());
    Ok(Some((kind, message.unwrap_or_else(|| kind.message().to_owned()))))
}

fn outcome_of(row: &Row) -> Result<Outcome, QueueError> {
    let erased: bool = row.try_get("erased")?;
    if let Some((kind, message)) = failure_of(row)? {
        let detail = row.try_get::<Option<&str>, _>("failure_detail")?.filter(|_| !erased);
        let detail = detail.map(json).transpose()?;
        return Ok(Outcome::Failed(Failure { kind, message, detail }));
    }
    match row.try_get::<Option<&str>, _>("output")? {
        _ if erased => Ok(Outcome::Erased),
        Some(text) => Ok(Outcome::Output(json(text)?)),
        None => Err(QueueError::Corrupt("a finished request with neither output nor failure".into())),
    }
}

fn line_of(row: &Row) -> Result<LogLine, QueueError> {
    Ok(LogLine {
        seq: row.try_get("seq")?,
        at: timestamp(row.try_get("at")?)?,
        level: Level::from_word(row.try_get("level")?)?,
        message: row.try_get("message")?,
    })
}

pub(super) fn json(text: &str) -> Result<Value, QueueError> {
    serde_json::from_str(text).map_err(|error| QueueError::Corrupt(format!("text that is not JSON: {error}")))
}

pub(super) fn timestamp(us: i64) -> Result<Timestamp, QueueError> {
    Timestamp::from_microsecond(us).map_err(|error| QueueError::Corrupt(format!("the time {us}: {error}")))
}
