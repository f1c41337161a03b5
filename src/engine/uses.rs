//! Counts the uses of a model on other threads: its memory is free only when the last has ended.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Counts uses.
#[derive(Clone, Default)]
pub(super) struct Uses(Arc<(Mutex<usize>, Condvar)>);

/// One use; it ends when this is dropped.
pub(super) struct Use(Uses);

impl Uses {
    pub(super) fn begin(&self) -> Use {
        self.count(|count| *count += 1);
        Use(self.clone())
    }

    /// Waits until every use has ended.
    pub(super) fn wait(&self) {
        let (count, ended) = &*self.0;
        let count = count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(ended.wait_while(count, |count| *count > 0).unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether there is one.
    pub(super) fn is_any(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) > 0
    }

    fn count(&self, change: impl FnOnce(&mut usize)) {
        let (count, ended) = &*self.0;
        change(&mut count.lock().unwrap_or_else(PoisonError::into_inner));
        ended.notify_all();
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.count(|count| *count -= 1);
    }
}
