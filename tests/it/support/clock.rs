//! Clocks that a test sets.

use crate::databases::Databases;
use jiff::{SignedDuration, Timestamp};
use latentd::queue::LeaseClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// In seconds.
pub(crate) const HOUR: i64 = 3600;

/// The date and the machine's uptime, both real and moved ahead by a test.
#[derive(Clone)]
pub(crate) struct TestClock {
    began: Instant,
    date: Arc<AtomicI64>,
    advanced: Arc<AtomicI64>,
    /// Of PostgreSQL, whose clock is the database's.
    pub(super) databases: Databases,
}

impl Default for TestClock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            date: Arc::default(),
            advanced: Arc::default(),
            databases: Databases::default(),
        }
    }
}

impl TestClock {
    /// Time passes.
    pub(crate) fn advance(&self, seconds: i64) {
        self.set_date(seconds);
        let before = self.advanced.fetch_add(seconds, Ordering::Relaxed);
        self.databases.set_ahead(before + seconds);
    }

    /// Somebody sets the time of day: no time passes.
    pub(crate) fn set_date(&self, seconds: i64) {
        self.date.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.date.load(Ordering::Relaxed))
    }

    /// Of a machine that started a day ago.
    pub(crate) fn lease_clock(&self) -> LeaseClock {
        let Self { began, advanced, .. } = self.clone();
        LeaseClock::new("boot", move || {
            let at_start = 24 * HOUR + advanced.load(Ordering::Relaxed);
            began.elapsed() + Duration::from_secs(at_start.unsigned_abs())
        })
    }
}
