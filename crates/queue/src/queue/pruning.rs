//! The limits of what is kept: finished requests by number and age, and their results, inputs and logs each by age. Uploaded
//! files count as inputs. Results are bounded by the bytes of all files, too.
//!
//! What owns a file gives it up when it goes; the sweep removes it then.

use super::clock::micros;
use super::store::{Query, query};
use super::stored::{TO_FETCH, undelivered};
use super::{Queue, QueueError};
use crate::planted::{self, Bug};
use std::time::Duration;

/// Requests that one call looks at, so that the database is never busy for long.
const BATCH: i64 = 200;

/// Lines of logs that one call deletes.
const LOG_BATCH: i64 = 5_000;

/// How much is kept, and how long; `None`: without a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// Finished requests.
    pub requests: Option<u64>,
    /// The result of a finished request: its stored output and its files.
    pub results: Option<Duration>,
    /// The stored input of a finished request.
    pub inputs: Option<Duration>,
    /// Files that clients uploaded; a shorter time that the client asked for counts.
    pub uploads: Option<Duration>,
    /// The log of a finished request.
    pub logs: Option<Duration>,
    /// Bytes of all files together. Beyond it the oldest results go.
    pub bytes: Option<u64>,
}

/// What one call did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Requests that are gone.
    pub requests: u64,
    /// Results that are gone, of requests that are still known.
    pub results: u64,
    /// Inputs of such requests.
    pub inputs: u64,
    /// Uploaded files.
    pub uploads: u64,
    /// Lines of logs that are gone, those of these requests not counted.
    pub log_lines: u64,
}

impl Keep {
    /// The age at which nothing is left of a request but that it was there: then it goes too.
    fn whole(&self) -> Option<Duration> {
        self.results.zip(self.inputs).map(|(results, inputs)| results.max(inputs))
    }
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
const DELETE: &str = concat!(
    "DELETE FROM requests WHERE id IN (
        SELECT id FROM requests WHERE state = 'done' AND ended_at <= $1 AND NOT ",
    undelivered!(),
    " ORDER BY ended_at LIMIT $2)"
);

const OLD_RESULTS: &str = concat!(
    "SELECT id, CAST(0 AS BIGINT) FROM requests WHERE state = 'done' AND erased_at IS NULL AND ended_at <= $1 AND NOT ",
    undelivered!(),
    " ORDER BY ended_at LIMIT $2"
);

const OLD_FILES: &str = concat!(
    "SELECT id, CAST((SELECT sum(bytes) FROM files WHERE request = requests.id) AS BIGINT) FROM requests
    WHERE state = 'done' AND erased_at IS NULL AND ended_at <= $1
        AND EXISTS (SELECT 1 FROM files WHERE request = requests.id) AND NOT ",
    undelivered!(),
    " ORDER BY ended_at LIMIT $2"
);

const ERASE_RESULT: &str =
    "UPDATE requests SET output = NULL, failure_detail = NULL, erase_at = NULL, erased_at = $2
    WHERE id = $1 AND state = 'done' AND erased_at IS NULL";

const GIVE_UP_FILES: &str = "DELETE FROM files WHERE request = $1";

const ERASE_INPUTS: &str = "UPDATE requests SET body = 'null' WHERE id IN (
    SELECT id FROM requests WHERE state = 'done' AND body <> 'null' AND ended_at <= $1
    ORDER BY ended_at LIMIT $2)";

const ANY_OLD_INPUT: &str =
    "SELECT 1 FROM requests WHERE state = 'done' AND body <> 'null' AND ended_at <= $1 LIMIT 1";

// A request that is not over may read a file that was there when it was accepted.
const DELETE_UPLOADS: &str = "DELETE FROM uploads WHERE ticket IN (
    SELECT ticket FROM uploads WHERE object IS NOT NULL AND whole_at <= $1
        AND whole_at <= coalesce((SELECT min(accepted_at) FROM requests WHERE state IN ('waiting', 'running')) - $2, $1)
    ORDER BY whole_at LIMIT $3)";

const ANY_OLD_UPLOAD: &str = "SELECT 1 FROM uploads WHERE object IS NOT NULL AND whole_at <= $1 LIMIT 1";

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
        if let Some(until) = before(keep.whole()).max(self.last_too_many(keep.requests).await?) {
            pruned.requests = query(DELETE).bind(until).bind(BATCH).execute(&self.writer).await?;
        }
        let is_early = planted::has(Bug::ResultsRemovedEarly);
        if let Some(until) = before(keep.results.map(|age| if is_early { Duration::ZERO } else { age })) {
            pruned.results = self.erase_results(query(OLD_RESULTS).bind(until), u64::MAX).await?;
        }
        if let Some(most) = keep.bytes {
            let excess = self.stored_bytes().await?.saturating_sub(most);
            let until = now.saturating_sub(micros(TO_FETCH));
            pruned.results += self.erase_results(query(OLD_FILES).bind(until), excess).await?;
        }
        if let Some(until) = before(keep.inputs)
            && !planted::has(Bug::InputsKept)
            && self.is_any(query(ANY_OLD_INPUT).bind(until)).await?
        {
            pruned.inputs = query(ERASE_INPUTS).bind(until).bind(BATCH).execute(&self.writer).await?;
        }
        if let Some((until, age)) = before(keep.uploads).zip(keep.uploads)
            && self.is_any(query(ANY_OLD_UPLOAD).bind(until)).await?
        {
            let delete = query(DELETE_UPLOADS).bind(until).bind(micros(age)).bind(BATCH);
            pruned.uploads = delete.execute(&self.writer).await?;
        }
        if let Some(until) = before(keep.logs) {
            let delete = query(DELETE_LOGS).bind(until).bind(LOG_BATCH);
            pruned.log_lines = delete.execute(&self.writer).await?;
        }
        Ok(pruned)
    }

    async fn is_any(&self, query: Query) -> Result<bool, QueueError> {
        Ok(query.fetch_optional(&self.reader).await?.is_some())
    }

    async fn last_too_many(&self, most: Option<u64>) -> Result<Option<i64>, QueueError> {
        let Some(most) = most else { return Ok(None) };
        let query = query(LAST_TOO_MANY).bind(i64::try_from(most).unwrap_or(i64::MAX));
        let row = query.fetch_optional(&self.reader).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Erases results, the first ones of `due`, until their files have `bytes`; returns how many.
    async fn erase_results(&self, due: Query, bytes: u64) -> Result<u64, QueueError> {
        if bytes == 0 {
            return Ok(0);
        }
        let due = due.bind(BATCH).fetch_all(&self.reader).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let (mut erased, mut freed) = (0, 0);
        let mut tx = self.writer.begin().await?;
        let now = self.moment(&mut tx).await?;
        for row in due {
            if freed >= bytes {
                break;
            }
            let id: &str = row.try_get(0)?;
            erased += query(ERASE_RESULT).bind(id).bind(now.date).execute(&mut tx).await?;
            query(GIVE_UP_FILES).bind(id).execute(&mut tx).await?;
            freed += row.try_get::<i64, _>(1)?.unsigned_abs();
        }
        tx.commit().await?;
        Ok(erased)
    }
}
