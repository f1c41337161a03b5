//! Which workers live: each writes a beat, readiness is computed from the last good one.

use super::{Queue, QueueError};
use sqlx::Row;
use std::time::Duration;

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Reading weights.
    Loading,
    /// Claims requests.
    Ready,
}

impl WorkerState {
    fn word(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
        }
    }
}

const BEAT: &str = "INSERT INTO workers (id, device, state, started_at, beat_at) VALUES (?1, ?2, ?3, ?4, ?4)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, beat_at = excluded.beat_at";

const RENEW_ALL: &str = "UPDATE requests SET lease_until = ?2 WHERE worker = ?1 AND state = 'running'";

const COUNT: &str =
    "SELECT count(*) FILTER (WHERE state = 'ready'), count(*) FROM workers WHERE beat_at >= ?1";

impl Queue {
    /// Says that the worker lives, and renews its claims.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn beat(&self, worker: &str, device: &str, state: WorkerState) -> Result<(), QueueError> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(BEAT)
            .bind(worker)
            .bind(device)
            .bind(state.word())
            .bind(self.now_us())
            .execute(&mut *tx)
            .await?;
        sqlx::query(RENEW_ALL).bind(worker).bind(self.lease_end_us()).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Forgets a worker that is gone.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_worker(&self, worker: &str) -> Result<(), QueueError> {
        sqlx::query("DELETE FROM workers WHERE id = ?1").bind(worker).execute(&self.writer).await?;
        Ok(())
    }

    /// Workers whose last beat is at most `age` old: those ready, and all.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn live_workers(&self, age: Duration) -> Result<(u64, u64), QueueError> {
        let since = self.now_us() - i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let row = sqlx::query(COUNT).bind(since).fetch_one(&self.reader).await?;
        Ok((row.try_get::<i64, _>(0)?.unsigned_abs(), row.try_get::<i64, _>(1)?.unsigned_abs()))
    }
}
