//! Signals: "there may be work" and "something moved". Inside one process, and on PostgreSQL between all that use the
//! database.
//!
//! A signal carries no data and may be lost between processes; whoever waits also looks at the
//! tables now and then.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long to trust that a change is signalled: workers of other processes may be unable to.
pub const POLL: Duration = Duration::from_millis(500);

/// Counters that only grow.
#[derive(Clone)]
pub struct Events {
    work: Arc<watch::Sender<u64>>,
    moved: Arc<watch::Sender<u64>>,
    /// Of this process alone.
    finished: Arc<watch::Sender<u64>>,
    /// Of the first two, those that this process caused.
    ours: Arc<watch::Sender<(u64, u64)>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            work: Arc::new(watch::Sender::new(0)),
            moved: Arc::new(watch::Sender::new(0)),
            finished: Arc::new(watch::Sender::new(0)),
            ours: Arc::new(watch::Sender::new((0, 0))),
        }
    }
}

impl Events {
    /// A request came in or was cancelled: workers should look.
    pub fn wake_workers(&self) {
        self.ours.send_modify(|(work, _)| *work += 1);
        self.received_work();
    }

    /// A request went on: whoever waits for it should look.
    pub fn wake_waiters(&self) {
        self.ours.send_modify(|(_, moved)| *moved += 1);
        self.received_moved();
    }

    /// This process has recorded the result of a request.
    pub(super) fn note_finished(&self) {
        self.finished.send_modify(|count| *count += 1);
    }

    /// Another process says that there may be work.
    pub(super) fn received_work(&self) {
        self.work.send_modify(|count| *count += 1);
    }

    /// Another process says that something moved.
    pub(super) fn received_moved(&self) {
        self.moved.send_modify(|count| *count += 1);
    }

    /// How often each was signalled.
    pub(super) fn counts(&self) -> (u64, u64) {
        (*self.work.borrow(), *self.moved.borrow())
    }

    /// How often this process signalled each.
    pub(super) fn ours(&self) -> watch::Receiver<(u64, u64)> {
        self.ours.subscribe()
    }

    /// Receives a change at each [`Self::wake_workers`].
    pub fn work(&self) -> watch::Receiver<u64> {
        self.work.subscribe()
    }

    /// Receives a change at each [`Self::wake_waiters`].
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Receives a change whenever this process has recorded the result of a request.
    pub fn finished(&self) -> watch::Receiver<u64> {
        self.finished.subscribe()
    }
}

/// Waits for a signal, at most `patience`.
pub async fn signal_or(receiver: &mut watch::Receiver<u64>, patience: Duration) {
    // An error means that the sender is gone, which its owner reports; both ends mean "look again".
    let _ = tokio::time::timeout(patience, receiver.changed()).await;
}
