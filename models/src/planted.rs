//! Allocations that tests make fail, as on a device that has no memory left. Without the feature `planted-failures`, which
//! only tests turn on, none does.

use candle_core::Result;
#[cfg(feature = "planted-failures")]
use std::sync::{Arc, Mutex, PoisonError};

/// An allocation that can be made to fail.
#[cfg_attr(not(feature = "planted-failures"), expect(unreachable_pub, reason = "exported for tests alone"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Of the denoising step with this index, from 0.
    Step(usize),
    /// Of decoding an image as a whole.
    Decode,
    /// Of decoding a tile.
    Tile,
}

/// The failures that are still to come. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Planted {
    #[cfg(feature = "planted-failures")]
    left: Arc<Mutex<Vec<Allocation>>>,
}

impl Planted {
    /// Has each of these allocations fail once.
    #[cfg(feature = "planted-failures")]
    pub(crate) fn plant(&self, failures: &[Allocation]) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).extend(failures);
    }

    /// Fails once for each time that the allocation was planted.
    pub(crate) fn check(&self, allocation: Allocation) -> Result<()> {
        #[cfg(feature = "planted-failures")]
        {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = left.iter().position(|planted| *planted == allocation) {
                left.remove(at);
                return Err(latentd_kernels::OutOfMemory.into());
            }
        }
        let _ = allocation;
        Ok(())
    }
}
