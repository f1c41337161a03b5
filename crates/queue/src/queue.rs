//! The durable queue: one table of requests, claimed by workers, fenced by attempt.
//!
//! Who calls what:
//! - the HTTP side: [`Queue::submit`], [`Queue::cancel`], [`Queue::status`], [`Queue::outcome`],
//!   [`Queue::logs`], [`Queue::watch`], [`Queue::preview`], [`Queue::live_workers`];
//! - a worker: [`Queue::claim`], [`Queue::charge`], [`Queue::peek`], [`Queue::progress`], [`Queue::verdict`],
//!   [`Queue::store_preview`], [`Queue::finish`], [`Queue::fail`], [`Queue::rest`], [`Queue::give_back`],
//!   [`Queue::beat`];
//! - whoever watches workers die: [`Queue::reclaim`], [`Queue::set_silent`]; whoever watches the time:
//!   [`Queue::expire_late`], [`Queue::reclaim_expired`];
//! - whoever removes what is not kept: [`Queue::prune`], [`Queue::erase_ended`], [`Queue::end_files`],
//!   [`Queue::given_up_files`];
//! - whoever writes files: [`Queue::expect_files`] before, [`Queue::give_up_file`] when it comes to nothing;
//! - whoever puts a database and its folder together: [`Queue::identity`] and its neighbours;
//! - whoever sends webhooks: [`Queue::claim_webhooks`], [`Queue::webhook_delivered`], [`Queue::webhook_failed`];
//! - whoever keeps the keys of the API: [`Queue::keys`], [`Queue::add_key`], [`Queue::revoke_key`];
//! - the HTTP side again, for files that clients send: [`Queue::open_upload`] and its neighbours;
//! - whoever measures the server: [`Queue::observe`], [`Queue::counters`], [`Queue::depth`].
//!
//! The queue stores values that it does not interpret and knows neither HTTP nor the engine.
//! All SQL of the program is below this module.

mod claim;
mod counters;
mod database;
mod deadline;
mod error;
pub mod events;
mod idempotency;
mod identity;
mod job;
mod keys;
mod lease;
mod positions;
mod previews;
mod pruning;
mod read;
mod recover;
mod rest;
mod retention;
mod service_time;
mod submit;
mod unowned;
mod uploads;
mod webhooks;
mod workers;

pub use claim::{Finish, StoredFile, Verdict};
pub use counters::{Counter, Depth, Observation};
pub use database::MIN_SQLITE;
pub use error::QueueError;
pub use events::Events;
pub use idempotency::Idempotency;
pub use identity::Identity;
pub use job::{
    Claim, Ended, Failure, FailureKind, Level, LogLine, NewRequest, Origin, Outcome, Phase, Priority,
    RequestId, Status, Terms,
};
pub use keys::{ApiKey, NewKey, Revocation, Scope};
pub use lease::{LEASE, LEASE_CHECK_INTERVAL, LEASE_CHECKS, LeaseCheck, LeaseClock};
pub use previews::{Preview, WATCH};
pub use pruning::{Keep, Pruned};
pub use recover::{Lost, Reclaimed};
pub use retention::{Erasure, FileLife};
pub use submit::{CancelAnswer, Submission};
pub use unowned::ABANDONED;
pub use uploads::{MAX_TOKENS, NewUpload, Part, TICKET_LIFE, Ticket, Uploaded};
pub use webhooks::{NewWebhook, Webhook};
pub use workers::WorkerState;

use jiff::Timestamp;
use positions::Positions;
use service_time::Noted;
use sqlx::SqlitePool;
use std::path::Path;
use std::sync::Arc;
use workers::SilentWorkers;

/// A request to which this many deaths of workers are charged is failed instead of tried again.
pub const MAX_DEATHS: i64 = 3;

/// Where the queue reads the time of day.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A handle on the queue; clones share the connections.
#[derive(Clone)]
pub struct Queue {
    writer: SqlitePool,
    reader: SqlitePool,
    clock: Clock,
    lease_clock: LeaseClock,
    noted: Noted,
    /// Service time less the machine's uptime, in microseconds.
    ahead_of_uptime: i64,
    events: Events,
    positions: Positions,
    silent: SilentWorkers,
}

impl Queue {
    /// Opens the SQLite file, creating it and its tables as needed.
    ///
    /// # Errors
    /// When the file cannot be opened or was written by a newer program.
    pub async fn open(path: &Path, clock: Clock) -> Result<Self, QueueError> {
        let (writer, reader) = database::open(path).await?;
        let noted = Noted::read(&reader).await?;
        let lease_clock = LeaseClock::of_system();
        Ok(Self {
            ahead_of_uptime: noted.ahead_of_uptime(&lease_clock, clock().as_microsecond()),
            noted,
            writer,
            reader,
            clock,
            lease_clock,
            events: Events::default(),
            positions: Positions::default(),
            silent: SilentWorkers::default(),
        })
    }

    /// The same queue, whose leases and deadlines are measured by another clock.
    #[must_use]
    pub fn with_lease_clock(self, lease_clock: LeaseClock) -> Self {
        let ahead_of_uptime = self.noted.ahead_of_uptime(&lease_clock, self.now().as_microsecond());
        Self { lease_clock, ahead_of_uptime, ..self }
    }

    /// The same queue with signals that were there before it.
    #[must_use]
    pub fn with_events(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// Signals between this process's users of the queue.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Closes the connections; the last one out writes the WAL back.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// The date, by the queue's clock.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }
}
