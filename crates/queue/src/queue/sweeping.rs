//! When the sweep may work, and what it leaves in SQLite's log.

use super::clock::micros;
use super::store::{Store, query};
use super::{Queue, QueueError};
use crate::planted::{self, Bug};
use std::time::Duration;

/// How long a server has the sweep to itself after it last asked.
pub const SWEEP_LEASE: Duration = Duration::from_secs(180);

const HOLD: &str =
    "UPDATE sweep_lease SET holder = $1, held_until = $3 WHERE holder = $1 OR held_until <= $2";

const IS_BUSY: &str = "SELECT EXISTS (SELECT 1 FROM requests WHERE state = 'waiting')
    OR EXISTS (SELECT 1 FROM requests WHERE state = 'running')";

impl Queue {
    /// Takes or keeps the sweep for a server, for [`SWEEP_LEASE`]. `false`: another server that shares the database has it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn hold_sweep(&self, holder: &str) -> Result<bool, QueueError> {
        // A file has one server, which must not wait for the lease of its predecessor.
        if !self.is_shared() {
            return Ok(true);
        }
        let now = self.service_us(&self.reader).await?;
        let hold = query(HOLD).bind(holder).bind(now).bind(now.saturating_add(micros(SWEEP_LEASE)));
        Ok(hold.execute(&self.writer).await? == 1)
    }

    /// Does no request wait or run?
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn is_idle(&self) -> Result<bool, QueueError> {
        Ok(!query(IS_BUSY).fetch_one(&self.reader).await?.try_get::<bool, _>(0)?)
    }

    /// Empties SQLite's write-ahead log: deleted content is overwritten in the database (`secure_delete`) and stays in the
    /// log's older copies of its pages. `false`: another process was reading; to be tried again. PostgreSQL removes old row
    /// versions by itself (VACUUM).
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn truncate_wal(&self) -> Result<bool, QueueError> {
        if matches!(self.writer, Store::Postgres(_)) || planted::has(Bug::WalKept) {
            return Ok(true);
        }
        let row = query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.writer).await?;
        Ok(row.try_get::<i64, _>(0)? == 0)
    }
}
