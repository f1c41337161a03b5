//! The ops on NVIDIA GPUs, one file an op as on the CPU. Only the rest of this crate and its callers' loop see it.
//!
//! Everything runs on the stream of the candle device that its tensors are on, in order, so no op waits. A captured graph
//! may use a second stream of the device ([`fork_join()`]).

mod allocation;
mod arena;
mod arguments;
pub mod attention;
mod branch;
mod choices;
pub(crate) mod conv2d;
mod cutlass;
mod dequantize;
mod device;
pub mod elementwise;
mod fork_join;
mod gemm;
mod graph;
pub mod group_norm;
pub(crate) mod joint_qkv;
pub mod latents;
pub(crate) mod linear;
mod lt;
mod memory;
pub(crate) mod modulate;
pub(crate) mod norm;
mod operand;
mod pass;
mod pinned;
mod poison;
mod product;
mod quantize;
pub(crate) mod residual;
mod rows;
pub mod select;
mod side_stream;
mod upload;

pub use arena::{Arena, Layout};
pub use dequantize::BlockMatrix;
pub use device::{DeviceHandle, between_captures};
pub use fork_join::fork_join;
pub use graph::{Event, Graph, warm_up};
pub use linear::{check_fp8, linear_rowwise};
pub use memory::{MemoryUse, free_unused};
pub use poison::poisoned;
pub use quantize::{Rowwise, quantize_rowwise};
pub use upload::{Upload, upload};

use candle_core::cuda_backend::WrapErr;
use candle_core::{Device, Result};
use cudarc::driver::CudaContext;
use select::Kernels;
use std::path::Path;

/// How many GPUs the driver shows to this process.
///
/// # Errors
/// The driver does not start.
pub fn count() -> Result<usize> {
    Ok(usize::try_from(CudaContext::device_count().w()?).unwrap_or(0))
}

/// Opens a GPU as [`DeviceHandle::open`] does, until the process ends: for tests and benches.
///
/// # Errors
/// As there.
pub fn open(ordinal: usize, choices: Option<&Path>) -> Result<Device> {
    let handle = DeviceHandle::open(ordinal, choices)?;
    let device = handle.device().clone();
    std::mem::forget(handle);
    Ok(device)
}

/// A GPU's name, compute capability, multiprocessors and driver in one line, and the kernels that the ops choose there.
///
/// # Errors
/// The device is none, or the driver answers no questions.
pub fn describe(device: &Device) -> Result<(String, Kernels)> {
    let gpu = device::Gpu::of(device.as_cuda_device()?)?;
    Ok((gpu.describe()?, gpu.kernels))
}
