//! The second stream of a device: each of the two can wait for what has been put on the other.

use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, result, sys};
use std::sync::Arc;

/// The second stream of a device.
pub(crate) struct SideStream {
    pub(crate) stream: Arc<CudaStream>,
    /// Recorded in one stream, then waited for by the other, over and over.
    event: CudaEvent,
}

impl SideStream {
    pub(crate) fn new(context: &Arc<CudaContext>) -> Result<Self> {
        context.bind_to_thread().w()?;
        let (_, greatest) = result::stream::get_priority_range().w()?;
        let stream = context.new_stream_with_priority(greatest).w()?;
        let untimed = Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING);
        Ok(Self { stream, event: context.new_event(untimed).w()? })
    }

    /// Waits for all that has been put on the device's own stream.
    pub(crate) fn follow(&self, main: &CudaStream) -> Result<()> {
        self.event.record(main).w()?;
        self.stream.wait(&self.event).w()
    }

    /// Has the device's own stream wait for all that has been put on this one.
    pub(super) fn join(&self, main: &CudaStream) -> Result<()> {
        self.event.record(&self.stream).w()?;
        main.wait(&self.event).w()
    }
}
