//! Pinned host memory, which a device copies from on its own.

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use cudarc::driver::{CudaContext, CudaStream, PinnedHostSlice};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pinned buffers that are kept: one is filled while the other is copied.
const BUFFERS: usize = 2;

/// The stream of a device's uploads ([`upload`](super::upload())), and buffers for them.
pub(super) struct Uploads {
    pub(super) stream: Arc<CudaStream>,
    /// The one whose copy began first is the first.
    buffers: Mutex<VecDeque<PinnedHostSlice<u8>>>,
}

impl Uploads {
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Self> {
        Ok(Self { stream: context.new_stream().w()?, buffers: Mutex::default() })
    }

    /// The kept buffer whose copy began first, once there are as many as are kept.
    pub(super) fn first(&self) -> Option<PinnedHostSlice<u8>> {
        let mut buffers = self.buffers();
        if buffers.len() < BUFFERS { None } else { buffers.pop_front() }
    }

    /// Keeps a buffer, whose copy may still be under way; returns one that is too many.
    pub(super) fn keep(&self, buffer: PinnedHostSlice<u8>) -> Option<PinnedHostSlice<u8>> {
        let mut buffers = self.buffers();
        buffers.push_back(buffer);
        if buffers.len() > BUFFERS { buffers.pop_front() } else { None }
    }

    fn buffers(&self) -> MutexGuard<'_, VecDeque<PinnedHostSlice<u8>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
