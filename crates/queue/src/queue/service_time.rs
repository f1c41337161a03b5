//! Service time: the clock of every deadline and age in the tables.
//!
//! The date jumps when it is set, and nothing may be deleted, sent again or called late because of that. Service time begins
//! as the date at which its table was made, and then advances with the machine's uptime. Across a restart of the machine, or
//! a move to another one, it advances by what the date says, but by a day at most: a wrong date ages nothing by more.
//! Dates that clients see are stored beside it.
//!
//! That is SQLite's, whose machine is ours. On PostgreSQL service time is the server's date: what several machines agree
//! on is the server alone, its uptime cannot be asked, and a note of it would have to be kept by whoever comes first. The
//! clock of a database server is one that an operator keeps right, and slews.

use super::clock::{LEASE, LeaseClock, micros};
use super::store::{Store, Target, query};
use super::{Queue, QueueError};
use std::time::Duration;

/// The most that a restart of the machine adds.
const MAX_STEP: Duration = Duration::from_secs(86_400);

const READ: &str = "SELECT service_us, uptime_us, date_us, boot FROM service_time";

const NOTE: &str = "UPDATE service_time SET service_us = $1, uptime_us = $2, date_us = $3, boot = $4
    WHERE service_us <= $1";

/// The clocks at one time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Since 1970, for people.
    pub(super) date: i64,
    /// Service time.
    pub(super) service: i64,
    /// Lease time.
    pub(super) lease: i64,
    /// When a claim made or renewed now ends, in lease time.
    pub(super) lease_end: i64,
}

/// What the table says: the three clocks at one earlier time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Noted {
    service: i64,
    uptime: i64,
    date: i64,
    boot: String,
}

impl Noted {
    pub(super) async fn read(store: &Store) -> Result<Self, QueueError> {
        let row = query(READ).fetch_one(store).await?;
        Ok(Self {
            service: row.try_get(0)?,
            uptime: row.try_get(1)?,
            date: row.try_get(2)?,
            boot: row.try_get(3)?,
        })
    }

    /// By how much service time is ahead of the uptime that `clock` gives; valid until the machine stops.
    pub(super) fn ahead_of_uptime(&self, clock: &LeaseClock, date: i64) -> i64 {
        if clock.boot() == self.boot {
            return self.service - self.uptime;
        }
        let step = date.saturating_sub(self.date).clamp(0, micros(MAX_STEP));
        self.service + step - clock.now_us()
    }
}

impl Queue {
    /// The time now, asked of `on` where that is a PostgreSQL server.
    pub(super) async fn moment(&self, on: impl Into<Target<'_>>) -> Result<Moment, QueueError> {
        let on = on.into();
        let (date, service, lease) = if on.is_sqlite() {
            let lease = self.lease_clock.now_us();
            (self.now().as_microsecond(), self.ahead_of_uptime + lease, lease)
        } else {
            let now = query("SELECT latentd_now()").fetch_one(on).await?.try_get(0)?;
            (now, now, now)
        };
        Ok(Moment { date, service, lease, lease_end: lease.saturating_add(micros(LEASE)) })
    }

    /// Service time now, asked of `on` where that is a PostgreSQL server.
    pub(super) async fn service_us(&self, on: impl Into<Target<'_>>) -> Result<i64, QueueError> {
        Ok(self.moment(on).await?.service)
    }

    /// Notes the time, so that the next process goes on from here. To be called at start and every minute.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn note_time(&self) -> Result<(), QueueError> {
        if matches!(self.writer, Store::Postgres(_)) {
            return Ok(());
        }
        let Moment { date, service, lease, .. } = self.moment(&self.writer).await?;
        let note = query(NOTE).bind(service).bind(lease).bind(date).bind(self.lease_clock.boot());
        note.execute(&self.writer).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    fn noted() -> Noted {
        Noted { service: 1_000 * DAY_US, uptime: 7_000_000, date: 20_000 * DAY_US, boot: "a".into() }
    }

    /// Service time in microseconds since the note.
    fn passed(boot: &str, uptime_s: u64, date_days: i64) -> i64 {
        let clock = LeaseClock::new(boot, move || Duration::from_secs(uptime_s));
        let noted = noted();
        noted.ahead_of_uptime(&clock, date_days * DAY_US) + clock.now_us() - noted.service
    }

    #[test]
    fn while_the_machine_runs_its_uptime_counts_whatever_the_date_says() {
        for date in [0, 20_000, 99_000] {
            assert_eq!(passed("a", 10, date), 3_000_000);
        }
    }

    #[test]
    fn a_restart_of_the_machine_adds_a_day_at_most_and_takes_nothing_away() {
        for (date, days) in [(0, 0), (19_999, 0), (20_000, 0), (20_001, 1), (20_002, 1), (99_000, 1)] {
            assert_eq!(passed("b", 500_000, date), days * DAY_US, "{date}");
        }
    }
}
