//! The durable queue: one table of requests, claimed by workers, fenced by attempt.
//!
//! Who calls what:
//! - the HTTP side: [`Queue::submit`], [`Queue::cancel`], [`Queue::status`], [`Queue::outcome`],
//!   [`Queue::logs`], [`Queue::watch`], [`Queue::preview`], [`Queue::live_workers`];
//! - a worker: [`Queue::claim`], [`Queue::charge`], [`Queue::peek`], [`Queue::progress`], [`Queue::verdict`],
//!   [`Queue::store_preview`], [`Queue::store_state`], [`Queue::use_state`], [`Queue::must_give_way`],
//!   [`Queue::finish`], [`Queue::fail`], [`Queue::put_off`], [`Queue::give_back`], [`Queue::heartbeat`];
//! - the supervisor, when workers die: [`Queue::reclaim`], [`Queue::set_silent`], [`Queue::set_device`]; the server's
//!   timers: [`Queue::expire_late`], [`Queue::reclaim_late`], [`Queue::reclaim_expired`];
//! - the sweep, which removes expired data: [`Queue::hold_sweep`], [`Queue::prune`], [`Queue::erase_ended`],
//!   [`Queue::end_files`], [`Queue::given_up_files`], [`Queue::truncate_wal`];
//! - writers of files: [`Queue::expect_files`] before, [`Queue::give_up_file`] when the file gets no owner;
//! - the check that a database and a folder belong together: [`Queue::identity`] and its neighbours;
//! - the webhook deliverer: [`Queue::claim_webhooks`], [`Queue::webhook_delivered`], [`Queue::webhook_failed`];
//! - the key ring and `latentd keys`: [`Queue::keys`], [`Queue::add_key`], [`Queue::revoke_key`];
//! - the HTTP side, for uploads: [`Queue::open_upload`] and its neighbours;
//! - metrics: [`Queue::observe`], [`Queue::counters`], [`Queue::depth`];
//! - the administrator's page: [`Queue::open_requests`], [`Queue::failed_requests`], [`Queue::workers`].
//!
//! It is kept in SQLite or in PostgreSQL; `store` has both engines, and every operation one body.
//!
//! The queue stores values that it does not interpret and knows neither HTTP nor the engine.
//! All SQL of the program is below this module.

mod claim;
mod clock;
mod counters;
mod deadline;
mod devices;
mod error;
pub mod events;
mod finished;
mod give_back;
mod idempotency;
mod identity;
mod job;
mod keys;
mod late_claims;
mod lease;
mod overview;
mod owners;
mod positions;
mod previews;
mod pruning;
mod read;
mod recover;
mod retention;
mod service_time;
mod states;
mod store;
mod stored;
mod submit;
mod sweeping;
mod turns;
mod unowned;
mod uploads;
mod webhooks;
mod workers;

pub use claim::{Finish, StoredFile, Verdict};
pub use clock::{LEASE, LeaseClock};
pub use counters::{Counter, Depth, Observation};
pub use error::QueueError;
pub use events::Events;
pub use idempotency::Idempotency;
pub use identity::Identity;
pub use job::{
    Claim, Ended, Failure, FailureKind, Level, LogLine, NewRequest, Origin, Outcome, Phase, Priority,
    RequestId, RequestOptions, Status,
};
pub use keys::{ApiKey, NewKey, Revocation, Scope};
pub use lease::{LEASE_CHECK_INTERVAL, LEASE_CHECKS, LeaseCheck};
pub use overview::{FailedRequest, LiveWorker, OpenRequest};
pub use previews::{Preview, WATCH};
pub use pruning::{Keep, Pruned};
pub use recover::{Lost, Reclaimed};
pub use retention::{Erasure, FileLife};
pub use store::sqlite::MIN_SQLITE;
pub use store::{Database, DatabaseUrlError};
pub use stored::TO_FETCH;
pub use submit::{CancelAnswer, Submission};
pub use sweeping::SWEEP_LEASE;
pub use unowned::ABANDONED;
pub use uploads::{MAX_TOKENS, NewUpload, Part, TICKET_LIFE, Ticket, Uploaded};
pub use webhooks::{NewWebhook, WEBHOOK_HOLD, Webhook};
pub use workers::WorkerState;

use devices::Devices;
use jiff::Timestamp;
use late_claims::LostWorkers;
use positions::Positions;
use service_time::Noted;
use std::sync::Arc;
use store::Store;
use store::notify::Signals;
use workers::SilentWorkers;

/// A request to which this many deaths of workers are charged, and which got no further in between, is failed instead of
/// tried again.
pub const MAX_DEATHS: i64 = 3;

/// Where the queue reads the time of day.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A handle on the queue; clones share the connections.
#[derive(Clone)]
pub struct Queue {
    writer: Store,
    /// PostgreSQL needs no connections of its own for reading: it is the same as `writer`.
    reader: Store,
    clock: Clock,
    lease_clock: LeaseClock,
    /// On SQLite.
    noted: Option<Noted>,
    /// Service time less the machine's uptime, in microseconds, on SQLite.
    ahead_of_uptime: i64,
    events: Events,
    /// To and from other processes, on PostgreSQL.
    _signals: Option<Arc<Signals>>,
    positions: Positions,
    silent: SilentWorkers,
    devices: Devices,
    lost_workers: LostWorkers,
}

impl Queue {
    /// Opens the database, creating its tables as needed; a file of SQLite is created too. `clock` gives the date; on
    /// PostgreSQL what is stored has the server's.
    ///
    /// # Errors
    /// When the database cannot be opened or was written by a newer program.
    pub async fn open(database: impl Into<Database>, clock: Clock) -> Result<Self, QueueError> {
        let (writer, reader) = match database.into() {
            Database::Sqlite(path) => {
                let (writer, reader) = store::sqlite::open(&path).await?;
                (Store::Sqlite(writer), Store::Sqlite(reader))
            }
            Database::Postgres { options, .. } => {
                let store = Store::Postgres(store::postgres::open(&options).await?);
                (store.clone(), store)
            }
        };
        let noted = match &reader {
            Store::Sqlite(_) => Some(Noted::read(&reader).await?),
            Store::Postgres(_) => None,
        };
        let queue = Self {
            ahead_of_uptime: 0,
            noted,
            writer,
            reader,
            clock,
            lease_clock: LeaseClock::of_system(),
            events: Events::default(),
            _signals: None,
            positions: Positions::default(),
            silent: SilentWorkers::default(),
            devices: Devices::default(),
            lost_workers: LostWorkers::default(),
        };
        Ok(queue.with_lease_clock(LeaseClock::of_system()).with_events(Events::default()))
    }

    /// The same queue, whose leases and deadlines are measured by another clock. PostgreSQL uses its own.
    #[must_use]
    pub fn with_lease_clock(self, lease_clock: LeaseClock) -> Self {
        let date = self.now().as_microsecond();
        let ahead_of_uptime =
            self.noted.as_ref().map_or(0, |noted| noted.ahead_of_uptime(&lease_clock, date));
        Self { lease_clock, ahead_of_uptime, ..self }
    }

    /// The same queue with signals that were there before it.
    #[must_use]
    pub fn with_events(self, events: Events) -> Self {
        let signals = match &self.writer {
            Store::Sqlite(_) => None,
            Store::Postgres(pool) => Some(Arc::new(store::notify::spawn(pool, &events))),
        };
        Self { events, _signals: signals, ..self }
    }

    /// Whether several machines can use the database. Then requests that run when this server starts may be claimed by
    /// workers of another server.
    pub fn is_shared(&self) -> bool {
        matches!(self.writer, Store::Postgres(_))
    }

    /// Signals between the queue's users.
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
