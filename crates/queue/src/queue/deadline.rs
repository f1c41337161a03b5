//! Ending requests that were to start by a time and did not.

use super::claim::add_log;
use super::finished::Finished;
use super::job::{FailureKind, Level, RequestId};
use super::store::query;
use super::{Queue, QueueError};

const LATE: &str = "SELECT 1 FROM requests WHERE state = 'waiting' AND start_before <= $1 LIMIT 1";

const EXPIRE: &str =
    "UPDATE requests SET state = 'done', finished_at = $2, ended_at = $1, failure = $3, failure_message = $4
    WHERE state = 'waiting' AND start_before <= $1 RETURNING id";

impl Queue {
    /// Fails the waiting requests whose time to start has passed; returns how many. Cheap when
    /// there is none. A claim never takes such a request, so it matters little when this is called.
    ///
    /// # Errors
    /// When the database refuses; nothing changed then.
    pub async fn expire_late(&self) -> Result<u64, QueueError> {
        let now = self.moment(&self.reader).await?;
        let late = query(LATE).bind(now.service);
        if late.fetch_optional(&self.reader).await?.is_none() {
            return Ok(0);
        }
        let kind = FailureKind::StartTimeout;
        let mut tx = self.writer.begin().await?;
        let expire = query(EXPIRE).bind(now.service).bind(now.date).bind(kind.word()).bind(kind.message());
        let rows = expire.fetch_all(&mut tx).await?;
        let mut finished = Vec::new();
        for row in &rows {
            let id = RequestId::of_row(row)?;
            add_log(&mut tx, id, now, Level::Error, kind.message()).await?;
            finished.push(Finished::read(&mut tx, id).await?);
        }
        tx.commit().await?;
        finished.iter().for_each(Finished::log);
        self.events.wake_waiters();
        Ok(rows.len() as u64)
    }
}
