//! Lease time: how long a claim or a worker's heartbeat counts, by a clock that nobody sets.
//!
//! The time of day jumps when it is corrected. So a table of SQLite holds microseconds since the machine started, which all
//! of its processes agree on. They start anew with the machine, which shows: no lease ends later than [`LEASE`] from now.
//!
//! A PostgreSQL server serves several machines, which agree on nothing but the server: lease time is its date. When that
//! is set, every lease may look void at once. Claims are not given up for it: it takes [`LEASE_CHECKS`] checks in a row, and
//! the heartbeats that come in between renew by the new date.

use super::clock::{LEASE, micros};
use super::store::{Store, Target, query};
use super::{Lost, Queue, QueueError, Reclaimed};
use std::time::Duration;

/// How often [`Queue::reclaim_expired`] is to be called.
pub const LEASE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// So many checks in a row must find a lease over before the claim is void. They are three heartbeats of a worker.
pub const LEASE_CHECKS: u32 = 15;

/// A check that comes or takes longer than this says that workers may have been held up just as well.
const HELD_UP: Duration = Duration::from_secs(3);

/// A span of lease time, in microseconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) to: i64,
}

/// What earlier checks for expired leases found.
#[derive(Debug, Default)]
pub struct LeaseCheck {
    checked_at: Option<Duration>,
    in_a_row: u32,
}

const ANY_EXPIRED: &str =
    "SELECT 1 FROM requests WHERE state = 'running' AND lease_until NOT BETWEEN $1 AND $2 LIMIT 1";

const FORGET_SILENT: &str = "DELETE FROM workers WHERE beat_at NOT BETWEEN $1 AND $2";

impl Queue {
    /// The span of ends of valid leases.
    pub(super) async fn valid_leases(&self, on: impl Into<Target<'_>>) -> Result<Span, QueueError> {
        let now = self.moment(on).await?;
        Ok(Span { from: now.lease, to: now.lease_end + self.lateness() })
    }

    /// The span of heartbeats of the last `age`.
    pub(super) async fn heartbeats_within(
        &self,
        on: impl Into<Target<'_>>,
        age: Duration,
    ) -> Result<Span, QueueError> {
        let now = self.moment(on).await?.lease;
        Ok(Span { from: now.saturating_sub(micros(age)), to: now + self.lateness() })
    }

    /// How much later than the time that was read others may have written theirs. On PostgreSQL they write while we read.
    fn lateness(&self) -> i64 {
        match self.writer {
            Store::Sqlite(_) => 0,
            Store::Postgres(_) => micros(LEASE),
        }
    }

    /// Voids the claims whose lease ran out; cheap when there is none. It takes [`LEASE_CHECKS`] calls at
    /// [`LEASE_CHECK_INTERVAL`] that all find one and all get the database's lock at once: when this process was stopped
    /// or the database was locked meanwhile, workers could not renew their leases, and get the time to do so.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn reclaim_expired(&self, check: &mut LeaseCheck) -> Result<Reclaimed, QueueError> {
        let began = self.lease_clock.now();
        let before = check.checked_at.replace(began);
        let in_a_row = std::mem::take(&mut check.in_a_row);
        let valid = self.valid_leases(&self.reader).await?;
        let expired = query(ANY_EXPIRED).bind(valid.from).bind(valid.to);
        if expired.fetch_optional(&self.reader).await?.is_none() {
            return Ok(Reclaimed::default());
        }
        drop(self.writer.begin().await?); // waits for SQLite's lock
        let was_held_up = before.is_some_and(|before| began.saturating_sub(before) > HELD_UP)
            || self.lease_clock.now().saturating_sub(began) > HELD_UP;
        check.in_a_row = if was_held_up { 1 } else { in_a_row + 1 };
        if check.in_a_row < LEASE_CHECKS {
            return Ok(Reclaimed::default());
        }
        self.reclaim(Lost::Expired).await
    }

    /// Forgets workers that have been silent for longer than a lease, or since before the machine started.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_silent_workers(&self) -> Result<(), QueueError> {
        let heartbeats = self.heartbeats_within(&self.reader, LEASE).await?;
        query(FORGET_SILENT).bind(heartbeats.from).bind(heartbeats.to).execute(&self.writer).await?;
        Ok(())
    }
}
