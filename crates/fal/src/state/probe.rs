//! Whether the database can be written, and whether the storage of files answers.

use latentd_queue::queue::Queue;
use latentd_queue::storage::Storage;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the database is taken to be as it was found.
const PROBE_AGE: Duration = Duration::from_secs(1);

/// How long a bucket is taken to be as it was found.
const STORAGE_AGE: Duration = Duration::from_secs(5);

/// A bucket that takes longer to answer is unavailable.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a refused write counts more than a successful probe.
const REFUSAL_AGE: Duration = Duration::from_secs(5);

/// Whether the server can write, as of the last probe, which is repeated once a second at most.
#[derive(Default)]
pub struct Probe {
    looked: tokio::sync::Mutex<Option<(Instant, bool)>>,
    storage: tokio::sync::Mutex<Option<(Instant, bool)>>,
    refused: Mutex<Option<Instant>>,
}

impl Probe {
    /// A call was refused because something could not be written. A look may find room for the little that it writes.
    pub(crate) fn note_refusal(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) async fn can_write(&self, queue: &Queue) -> bool {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_none_or(|at| at.elapsed() > REFUSAL_AGE) && self.look(queue).await
    }

    async fn look(&self, queue: &Queue) -> bool {
        let mut last = self.looked.lock().await;
        if let Some((at, can_write)) = *last
            && at.elapsed() < PROBE_AGE
        {
            return can_write;
        }
        let written = queue.probe().await;
        if let Err(error) = &written {
            tracing::warn!(%error, "the database cannot be written");
        }
        *last = Some((Instant::now(), written.is_ok()));
        written.is_ok()
    }

    /// Does the storage of files answer?
    pub(crate) async fn can_store(&self, storage: &Storage) -> bool {
        let mut last = self.storage.lock().await;
        if let Some((at, can_store)) = *last
            && at.elapsed() < STORAGE_AGE
        {
            return can_store;
        }
        let answered = match tokio::time::timeout(STORAGE_TIMEOUT, storage.probe()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the storage is unavailable");
                false
            }
            Err(_) => {
                tracing::warn!("the storage is unavailable: no answer in {STORAGE_TIMEOUT:?}");
                false
            }
        };
        *last = Some((Instant::now(), answered));
        answered
    }
}
