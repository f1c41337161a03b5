//! Claims that PostgreSQL commits for a worker after its death: the worker was killed while its statement was on the way, so
//! the reclaim that followed the death did not see the claim.

use super::store::{Store, query};
use super::{Lost, Queue, QueueError, Reclaimed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long after its death a worker's claims are looked for. A claim that is committed later is void when its lease ends.
const WATCHED: Duration = Duration::from_secs(30);

const ANY: &str = "SELECT 1 FROM requests WHERE state = 'running' AND worker = $1 LIMIT 1";

/// The workers whose claims were put back lately, and whether each died or was stopped.
#[derive(Clone, Default)]
pub(super) struct LostWorkers(Arc<Mutex<Vec<LostWorker>>>);

#[derive(Clone)]
struct LostWorker {
    id: String,
    has_died: bool,
    /// By the clock of leases.
    at: Duration,
}

impl LostWorkers {
    fn recent(&self, now: Duration) -> Vec<LostWorker> {
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| now.saturating_sub(worker.at) < WATCHED);
        workers.clone()
    }
}

impl Queue {
    /// Remembers whose claims were put back. SQLite needs no second look: the transaction of a process ends with it.
    pub(super) fn note_lost(&self, lost: Lost<'_>) {
        let (id, has_died) = match lost {
            Lost::Died(id) => (id, true),
            Lost::Stopped(id) => (id, false),
            Lost::Expired | Lost::Everything => return,
        };
        if matches!(self.writer, Store::Postgres(_)) {
            let mut workers = self.lost_workers.0.lock().unwrap_or_else(PoisonError::into_inner);
            if workers.iter().all(|worker| worker.id != id) {
                workers.push(LostWorker { id: id.to_owned(), has_died, at: self.lease_clock.now() });
            }
        }
    }

    /// Puts back what was claimed for workers whose claims this process has put back within the last half minute; cheap when
    /// there is nothing. To be called about once a second.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn reclaim_late(&self) -> Result<Reclaimed, QueueError> {
        let mut all = Reclaimed::default();
        for worker in self.lost_workers.recent(self.lease_clock.now()) {
            if query(ANY).bind(&worker.id).fetch_optional(&self.reader).await?.is_none() {
                continue;
            }
            let id = worker.id.as_str();
            let lost = if worker.has_died { Lost::Died(id) } else { Lost::Stopped(id) };
            let done = self.reclaim(lost).await?;
            all.waiting += done.waiting;
            all.ended += done.ended;
        }
        Ok(all)
    }
}
