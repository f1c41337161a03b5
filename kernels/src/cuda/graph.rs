//! Work recorded once and replayed without the host: CUDA graphs, and marks on a stream to wait for.

use super::device::Gpu;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaGraph, sys};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Device, Result, bail};
use std::sync::Arc;

/// A recorded sequence of ops. Replaying runs them on the same addresses.
///
/// Memory that the recorded work takes and gives back belongs to the graph; tensors it reads or writes that existed
/// before must outlive it, which is the caller's to see to.
pub struct Graph {
    graph: CudaGraph,
}

// SAFETY: a graph may be used by any thread, by one at a time; nothing here lets two share one.
#[expect(unsafe_code, reason = "handles are pointers")]
unsafe impl Send for Graph {}

/// A point in a device's stream.
pub struct Mark {
    event: CudaEvent,
}

pub(super) fn cuda(device: &Device) -> Result<&CudaDevice> {
    match device {
        Device::Cuda(device) => Ok(device),
        other => bail!("expected a CUDA device, got {other:?}"),
    }
}

impl Graph {
    /// Records what `work` launches, without running it. Run `work` once before: kernels, plans and small constants
    /// that are made on first use cannot be made while recording. `work` must drop every tensor that it makes.
    ///
    /// # Errors
    /// `work` failed or did what cannot be recorded, such as reading a value back.
    pub fn record(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let device = cuda(device)?;
        let gpu = Gpu::of(device)?;
        gpu.main().synchronize().w()?;
        let _constants = device.enable_cuda_graph_htod_cache();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        gpu.main().begin_capture(mode).w()?;
        let worked = work();
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH
            | sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
        let ended = gpu.main().end_capture(flags).w();
        worked?;
        match ended? {
            Some(graph) => Ok(Self { graph }),
            None => bail!("the recording was empty or invalid"),
        }
    }

    /// Puts one replay on the stream.
    ///
    /// # Errors
    /// The driver refused.
    pub fn launch(&self) -> Result<()> {
        self.graph.launch().w()
    }
}

/// Runs `work` as [`Graph::record`] will: constants that a recording needs are kept.
///
/// # Errors
/// What `work` returns.
pub fn rehearse<T>(device: &Device, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _constants = cuda(device)?.enable_cuda_graph_htod_cache();
    work()
}

impl Mark {
    /// Marks the end of what has been put on the device's stream so far.
    ///
    /// # Errors
    /// The driver refused.
    pub fn new(device: &Device) -> Result<Self> {
        let gpu: Arc<Gpu> = Gpu::of(cuda(device)?)?;
        let timed = sys::CUevent_flags::CU_EVENT_DEFAULT;
        Ok(Self { event: gpu.main().record_event(Some(timed)).w()? })
    }

    /// Waits until the device has come here.
    ///
    /// # Errors
    /// Work before the mark failed on the device.
    pub fn wait(&self) -> Result<()> {
        self.event.synchronize().w()
    }

    /// Seconds between two marks that have both been waited for.
    ///
    /// # Errors
    /// The driver refused.
    pub fn seconds_since(&self, earlier: &Self) -> Result<f64> {
        Ok(f64::from(earlier.event.elapsed_ms(&self.event).w()?) / 1e3)
    }
}
