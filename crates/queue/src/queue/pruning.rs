//! The end of finished requests: rows and logs are bounded by number and age.
//!
//! A request's rows go with it. Those of its files put them among the files that are given up, by a trigger.

use super::clock::micros;
use super::store::query;
use super::{Queue, QueueError};
use std::time::Duration;

/// Requests that one call looks at, so that the database is never busy for long.
const BATCH: i64 = 200;

/// Lines of logs that one call deletes.
const LOG_BATCH: i64 = 5_000;

/// How long finished requests are kept; `None`: for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// How many.
    pub requests: Option<u64>,
    /// How long each.
    pub age: Option<Duration>,
    /// How long the log of each.
    pub log_age: Option<Duration>,
}

/// What one call did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Requests that are gone.
    pub requests: u64,
    /// Lines of logs that are gone, those of these requests not counted.
    pub log_lines: u64,
}

impl Pruned {
    /// There may be more to do.
    pub fn is_some(self) -> bool {
        self != Self::default()
    }
}

/// When the newest request ended that there is no place for.
const LAST_TOO_MANY: &str = "SELECT ended_at FROM requests WHERE state = 'done'
    ORDER BY ended_at DESC LIMIT 1 OFFSET $1";

/// The oldest requests up to a time; those whose webhook is still to be delivered stay.
const DELETE: &str = "DELETE FROM requests WHERE id IN (
    SELECT id FROM requests WHERE state = 'done' AND ended_at <= $1
        AND NOT EXISTS (SELECT 1 FROM webhooks WHERE request = requests.id AND state IN ('waiting', 'due'))
    ORDER BY ended_at LIMIT $2)";

const DELETE_LOGS: &str = "DELETE FROM request_logs WHERE seq IN (
    SELECT line.seq FROM request_logs AS line JOIN requests ON requests.id = line.request
    WHERE line.written_at <= $1 AND requests.state = 'done' ORDER BY line.written_at LIMIT $2)";

impl Queue {
    /// Deletes some of what is beyond these limits. To be called until nothing is left.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn prune(&self, keep: &Keep) -> Result<Pruned, QueueError> {
        let mut pruned = Pruned::default();
        let now = self.service_us(&self.reader).await?;
        let before = |age: Option<Duration>| age.map(|age| now.saturating_sub(micros(age)));
        if let Some(until) = before(keep.age).max(self.last_too_many(keep.requests).await?) {
            let delete = query(DELETE).bind(until).bind(BATCH);
            pruned.requests = delete.execute(&self.writer).await?;
        }
        if let Some(until) = before(keep.log_age) {
            let delete = query(DELETE_LOGS).bind(until).bind(LOG_BATCH);
            pruned.log_lines = delete.execute(&self.writer).await?;
        }
        Ok(pruned)
    }

    async fn last_too_many(&self, most: Option<u64>) -> Result<Option<i64>, QueueError> {
        let Some(most) = most else { return Ok(None) };
        let query = query(LAST_TOO_MANY).bind(i64::try_from(most).unwrap_or(i64::MAX));
        let row = query.fetch_optional(&self.reader).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}
