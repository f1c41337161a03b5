//! `--max-storage`: how many bytes of files may be stored, asked before anything new is accepted.
//!
//! The limit is one of deletion first: the sweep deletes the oldest results beyond it. Where it may delete none, nothing new
//! is accepted.

use crate::queue::{Queue, QueueError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};

/// The bytes are added up again after this long, or after this many times what adding them up took, whichever is longer.
const FRESH: Duration = Duration::from_secs(1);
const TIMES: u32 = 20;

/// The limit, or none; clones share it.
#[derive(Clone, Default)]
pub struct StorageLimit(Option<Arc<Inner>>);

struct Inner {
    most: u64,
    last: Mutex<Option<Measured>>,
    reached: Notify,
}

/// What is stored, and how much of it the sweep may delete, once that was asked.
#[derive(Clone, Copy)]
struct Measured {
    at: Instant,
    took: Duration,
    bytes: u64,
    deletable: Option<u64>,
}

/// Why nothing new may be stored.
#[derive(Debug, thiserror::Error)]
pub enum StorageLimitError {
    /// The limit is reached, and no result may be deleted.
    #[error("{bytes} bytes of files are stored and no result may be deleted yet: --max-storage is {most}")]
    Reached {
        /// Bytes that are stored.
        bytes: u64,
        /// The limit in bytes.
        most: u64,
    },
    /// The database refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl StorageLimit {
    /// At most so many bytes; `None`: as many as disks take.
    pub fn new(most: Option<u64>) -> Self {
        let inner = |most| Inner { most, last: Mutex::default(), reached: Notify::new() };
        Self(most.map(|most| Arc::new(inner(most))))
    }

    /// The most bytes that may be stored; `None`: as many as disks take.
    pub fn most(&self) -> Option<u64> {
        self.0.as_ref().map(|limit| limit.most)
    }

    /// Passes if `bytes` more may be stored, now or after the sweep, which is woken where it has to delete for that. What
    /// passed counts as stored until all is added up again.
    ///
    /// # Errors
    /// When the limit is reached and nothing may be deleted, or the database refuses.
    pub async fn check(&self, queue: &Queue, bytes: u64) -> Result<(), StorageLimitError> {
        let Some(limit) = &self.0 else { return Ok(()) };
        let mut last = limit.last.lock().await;
        let fresh = last.filter(|last| last.at.elapsed() < FRESH.max(last.took * TIMES));
        let is_new = fresh.is_none();
        let mut now = match fresh {
            Some(known) => known,
            None => measure(queue).await?,
        };
        let wanted = now.bytes.saturating_add(bytes.max(1));
        if wanted > limit.most {
            let deletable = match now.deletable {
                Some(known) => known,
                None => {
                    let asked = Instant::now();
                    let deletable = queue.deletable_bytes().await?;
                    now.took += asked.elapsed();
                    *now.deletable.insert(deletable)
                }
            };
            if is_new {
                limit.reached.notify_one();
            }
            if wanted.saturating_sub(deletable) > limit.most {
                *last = Some(now);
                return Err(StorageLimitError::Reached { bytes: now.bytes, most: limit.most });
            }
        }
        now.bytes = now.bytes.saturating_add(bytes);
        *last = Some(now);
        Ok(())
    }

    /// Waits until the limit was found to be reached.
    pub async fn reached(&self) {
        match &self.0 {
            Some(limit) => limit.reached.notified().await,
            None => std::future::pending().await,
        }
    }
}

async fn measure(queue: &Queue) -> Result<Measured, QueueError> {
    let at = Instant::now();
    let bytes = queue.stored_bytes().await?;
    Ok(Measured { at, took: at.elapsed(), bytes, deletable: None })
}
