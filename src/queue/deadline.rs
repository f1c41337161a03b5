//! Ending requests that were to start by a time and did not.

use super::claim::add_log;
use super::job::{FailureKind, Level};
use super::{Queue, QueueError};
use sqlx::Row;

/// Whether a request that is to start by a time is late; ?1 is the time of day, ?2 lease time. The date may be set, so
/// lease time counts, unless the machine has started since: then the end lies further away than it ever did.
macro_rules! is_late {
    () => {
        "CASE WHEN start_lease <= ?2 + (start_before - created_at) THEN start_lease <= ?2
            ELSE start_before <= ?1 END"
    };
}
pub(super) use is_late;

const LATE: &str = concat!(
    "SELECT 1 FROM requests WHERE state = 'waiting' AND start_before IS NOT NULL AND ",
    is_late!(),
    " LIMIT 1"
);

const EXPIRE: &str = concat!(
    "UPDATE requests SET state = 'done', finished_at = ?1, failure = ?3, failure_message = ?4
    WHERE state = 'waiting' AND start_before IS NOT NULL AND ",
    is_late!(),
    " RETURNING id"
);

impl Queue {
    /// Fails the waiting requests whose time to start has passed; returns how many. Cheap when
    /// there is none. A claim never takes such a request, so it matters little when this is called.
    ///
    /// # Errors
    /// When the database refuses; nothing changed then.
    pub async fn expire_late(&self) -> Result<u64, QueueError> {
        let (now, lease_now) = (self.now_us(), self.lease_now_us());
        let late = sqlx::query(LATE).bind(now).bind(lease_now);
        if late.fetch_optional(&self.reader).await?.is_none() {
            return Ok(0);
        }
        let kind = FailureKind::StartTimeout;
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let expire = sqlx::query(EXPIRE).bind(now).bind(lease_now).bind(kind.word()).bind(kind.message());
        let rows = expire.fetch_all(&mut *tx).await?;
        for row in &rows {
            let id: &str = row.try_get(0)?;
            let id = id.parse().map_err(|_| QueueError::Corrupt(format!("the request id {id:?}")))?;
            add_log(&mut tx, id, now, Level::Error, kind.message()).await?;
        }
        tx.commit().await?;
        self.events.wake_waiters();
        Ok(rows.len() as u64)
    }
}
