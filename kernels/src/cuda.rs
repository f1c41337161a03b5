//! The ops on NVIDIA GPUs, one file an op as on the CPU. Only the rest of this crate and its callers' loop see it.
//!
//! Everything runs on the stream of the candle device that its tensors are on, in order, so no op waits. A recorded graph
//! may have a second stream beside it ([`beside()`]).

mod arguments;
pub mod attention;
mod beside;
mod choices;
pub(crate) mod conv2d;
mod cutlass;
mod device;
pub mod elementwise;
mod gemm;
mod graph;
pub mod group_norm;
pub(crate) mod joint_qkv;
pub mod latents;
pub(crate) mod linear;
mod lt;
pub(crate) mod modulate;
pub(crate) mod norm;
mod operand;
mod poison;
mod quantize;
pub(crate) mod residual;
mod rows;
pub mod select;

pub use beside::beside;
pub use graph::{Graph, Mark, rehearse};
pub use linear::{check_fp8, linear_rowwise};
pub use poison::poisoned;
pub use quantize::{Rowwise, quantize_rowwise};

use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Device, Result};
use select::Kernels;
use std::path::Path;

/// How many GPUs the driver shows to this process.
///
/// # Errors
/// The driver does not start.
pub fn count() -> Result<usize> {
    Ok(usize::try_from(CudaContext::device_count().w()?).unwrap_or(0))
}

/// Opens a GPU: loads every kernel and prepares the matrix products, so that no request waits for it.
///
/// The algorithm of a product is timed the first time that a shape of it is seen. With a folder for them, `choices`, it is
/// kept there for later processes, which then also get the same bits.
///
/// # Errors
/// There is no such GPU, or the driver is too old for this build.
pub fn open(ordinal: usize, choices: Option<&Path>) -> Result<Device> {
    let device = CudaDevice::new_with_stream(ordinal)?;
    track_nothing(&device);
    let gpu = device::Gpu::of(&device)?;
    if let Some(folder) = choices {
        gpu.gemm().keep_choices(folder, &gpu.describe()?);
    }
    Ok(Device::Cuda(device))
}

/// A GPU's name, compute capability, multiprocessors and driver in one line, and the kernels that the ops choose there.
///
/// # Errors
/// The device is none, or the driver answers no questions.
pub fn describe(device: &Device) -> Result<(String, Kernels)> {
    let gpu = device::Gpu::of(device.as_cuda_device()?)?;
    Ok((gpu.describe()?, gpu.kernels))
}

#[expect(unsafe_code, reason = "candle's switch is unsafe")]
fn track_nothing(device: &CudaDevice) {
    // SAFETY: all work of a device goes to its one stream, in order, so there are no uses on other streams to wait for,
    // but for `beside`, which sees to that itself. Events on every tensor would also be recorded into graphs.
    unsafe { device.disable_event_tracking() }
}
