//! The ops on NVIDIA GPUs, one file an op as on the CPU. Only the rest of this crate and its callers' loop see it.
//!
//! Everything runs on the stream of the candle device that its tensors are on, in order, so no op waits.

mod device;
mod gemm;
mod graph;
mod lt;
mod operand;

pub use graph::{Graph, Mark, rehearse};

use candle_core::cuda_backend::CudaDevice;
use candle_core::{Device, Result};

/// Opens a GPU: loads every kernel and prepares the matrix products, so that no request waits for it.
///
/// # Errors
/// There is no such GPU, or the driver is too old for this build.
pub fn open(ordinal: usize) -> Result<Device> {
    let device = CudaDevice::new_with_stream(ordinal)?;
    track_nothing(&device);
    device::Gpu::of(&device)?;
    Ok(Device::Cuda(device))
}

#[expect(unsafe_code, reason = "candle's switch is unsafe")]
fn track_nothing(device: &CudaDevice) {
    // SAFETY: all work of a device goes to its one stream, in order, so there are no uses on other streams to wait for.
    // Events on every tensor would also be recorded into graphs.
    unsafe { device.disable_event_tracking() }
}
