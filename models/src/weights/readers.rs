//! The threads that read weights.

use candle_core::{Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::ops::RangeInclusive;
use std::sync::OnceLock;

/// Threads that read: a disk is only busy when several wait for it, and each has a staging buffer.
const READERS: RangeInclusive<usize> = 8..=16;

/// Threads that end with the files they read, begun when there is enough to read.
#[derive(Debug, Default)]
pub(super) struct Readers(OnceLock<ThreadPool>);

impl Readers {
    pub(super) fn get(&self) -> Result<&ThreadPool> {
        if let Some(pool) = self.0.get() {
            return Ok(pool);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.clamp(*READERS.start(), *READERS.end());
        let name = |number| format!("reader {number}");
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build();
        let pool = pool.map_err(|error| Error::msg(format!("no threads to read weights with: {error}")))?;
        Ok(self.0.get_or_init(|| pool))
    }
}
