//! The clock of leases, which is the machine's uptime, and the unit in which the tables hold times.

use std::sync::Arc;
use std::time::Duration;

/// How long a claim holds without being renewed.
pub const LEASE: Duration = Duration::from_secs(60);

/// The time since the machine started, the same in all of its processes.
#[derive(Clone)]
pub struct LeaseClock {
    boot: Arc<str>,
    uptime: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl LeaseClock {
    /// A clock of one's own. `boot` identifies one start of the machine.
    pub fn new(boot: &str, uptime: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { boot: boot.into(), uptime: Arc::new(uptime) }
    }

    /// The system's own. It goes on while the machine sleeps; [`reclaim_expired`](super::Queue::reclaim_expired) does not charge that to workers.
    pub fn of_system() -> Self {
        Self::new(&boot_id(), || uptime().unwrap_or_else(of_other_systems))
    }

    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    pub(super) fn now(&self) -> Duration {
        (self.uptime)()
    }

    pub(super) fn now_us(&self) -> i64 {
        micros(self.now())
    }
}

/// A span in the unit of the tables. One that does not fit lasts for good.
pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

/// Linux reports hundredths of seconds.
fn uptime() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn of_other_systems() -> Duration {
    Duration::from_secs(sysinfo::System::uptime().unwrap_or_default())
}

/// Differs after every start. Where the system has no such name it is the time of the start, which moves with the date.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(
        |_| sysinfo::System::boot_time().unwrap_or_default().to_string(),
        |id| id.trim().to_owned(),
    )
}
