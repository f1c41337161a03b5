//! Service time: the clock of every deadline and age in the tables.
//!
//! The date jumps when it is set, and nothing may be deleted, sent again or called late because of that. Service time begins
//! as the date at which its table was made, and then advances with the machine's uptime. Across a restart of the machine, or
//! a move to another one, it advances by what the date says, but by a day at most: a wrong date ages nothing by more.
//! Dates that clients see are stored beside it.

use super::lease::LeaseClock;
use super::{Queue, QueueError};
use sqlx::{Row, SqlitePool};
use std::time::Duration;

/// The most that a restart of the machine adds.
const MAX_STEP: Duration = Duration::from_secs(86_400);

const READ: &str = "SELECT service_us, uptime_us, date_us, boot FROM service_time";

const NOTE: &str = "UPDATE service_time SET service_us = ?1, uptime_us = ?2, date_us = ?3, boot = ?4
    WHERE service_us <= ?1";

/// Both clocks at one time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Since 1970, for people.
    pub(super) date: i64,
    /// Service time.
    pub(super) service: i64,
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
    pub(super) async fn read(pool: &SqlitePool) -> Result<Self, QueueError> {
        let row = sqlx::query(READ).fetch_one(pool).await?;
        Ok(Self {
            service: row.try_get(0)?,
            uptime: row.try_get(1)?,
            date: row.try_get(2)?,
            boot: row.try_get(3)?,
        })
    }

    /// By how much service time is ahead of the uptime that `clock` tells; valid until the machine stops.
    pub(super) fn ahead_of_uptime(&self, clock: &LeaseClock, date: i64) -> i64 {
        if clock.boot() == self.boot {
            return self.service - self.uptime;
        }
        let step = date.saturating_sub(self.date).clamp(0, micros(MAX_STEP));
        self.service + step - clock.now_us()
    }
}

impl Queue {
    /// Service time now.
    pub(super) fn service_us(&self) -> i64 {
        self.ahead_of_uptime + self.lease_clock.now_us()
    }

    /// The date and service time now.
    pub(super) fn moment(&self) -> Moment {
        Moment { date: self.now().as_microsecond(), service: self.service_us() }
    }

    /// Notes the time, so that the next process goes on from here. To be called at start and every minute.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn note_time(&self) -> Result<(), QueueError> {
        let Moment { date, service } = self.moment();
        let uptime = service - self.ahead_of_uptime;
        let note = sqlx::query(NOTE).bind(service).bind(uptime).bind(date).bind(self.lease_clock.boot());
        note.execute(&self.writer).await?;
        Ok(())
    }
}

/// A span in the unit of the tables. One that does not fit lasts for good.
pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
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
