//! What the loop needs of a CUDA device beyond tensors and layers: opening it, capturing a step, events to wait for, and
//! whether it ran out of memory. And what a device's kernels are.

use crate::{Error, Result};
use candle_core::Device;
#[cfg(any(test, feature = "planted-failures"))]
pub(crate) use latentd_kernels::OutOfMemory;
pub(crate) use latentd_kernels::is_out_of_memory;
use std::path::Path;

#[cfg(feature = "cuda")]
pub(crate) use latentd_kernels::cuda::{
    Arena, BlockMatrix, DeviceHandle as Handle, Event, Graph, Layout, Upload, between_captures, free_unused,
    latents, upload, warm_up,
};

/// No GPU: this program was built without CUDA.
#[cfg(not(feature = "cuda"))]
#[derive(Clone)]
pub(crate) enum Handle {}

#[cfg(not(feature = "cuda"))]
impl Handle {
    pub(crate) fn device(&self) -> &Device {
        match *self {}
    }
}

/// Opens CUDA device `ordinal`, loading its kernels, until the last handle is dropped; with `fp8` it must be able to
/// multiply in fp8. What is found out about it is kept in the folder `cache`.
#[cfg(feature = "cuda")]
pub(crate) fn open(ordinal: usize, fp8: bool, cache: Option<&Path>) -> Result<Handle> {
    let handle = Handle::open(ordinal, cache).map_err(|why| unusable(ordinal, &why))?;
    if fp8 {
        check_fp8(ordinal, handle.device())?;
    }
    Ok(handle)
}

/// Nothing: the processor's memory is given back when it is freed.
#[cfg(not(feature = "cuda"))]
pub(crate) fn free_unused(_device: &Device) -> candle_core::Result<()> {
    Ok(())
}

/// The kernels that a CUDA device gets, in words.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceKernels {
    /// The device's name, compute capability, multiprocessors and driver.
    pub card: String,
    /// Attention in bf16.
    pub attention: String,
    /// Convolutions in bf16.
    pub convolutions: String,
    /// Products in fp8, or why there are none. All others are cuBLASLt's.
    pub fp8: std::result::Result<String, String>,
}

/// How many CUDA devices the driver shows to this process. Starts CUDA.
///
/// # Errors
/// The driver does not start.
#[cfg(feature = "cuda")]
pub fn cuda_devices() -> Result<usize> {
    let count = latentd_kernels::cuda::count();
    count.map_err(|why| Error::Device(format!("NVIDIA's driver does not start: {why}")))
}

/// None: this program was built without CUDA.
///
/// # Errors
/// Never.
#[cfg(not(feature = "cuda"))]
pub fn cuda_devices() -> Result<usize> {
    Ok(0)
}

/// Opens CUDA device `ordinal` as a model would, and returns which kernels it gets. Takes a second and some memory of it.
///
/// # Errors
/// The device cannot be used.
#[cfg(feature = "cuda")]
pub fn device_kernels(ordinal: usize) -> Result<DeviceKernels> {
    let handle = open(ordinal, false, None)?;
    let described = latentd_kernels::cuda::describe(handle.device());
    let (card, kernels) = described.map_err(|why| unusable(ordinal, &why))?;
    let fp8 = check_fp8(ordinal, handle.device()).map(|()| kernels.fp8.to_string());
    Ok(DeviceKernels {
        card,
        attention: kernels.attention.to_string(),
        convolutions: kernels.convolution.to_string(),
        fp8: fp8.map_err(|why| why.to_string()),
    })
}

/// Says that this program was built without CUDA.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cuda"))]
pub fn device_kernels(ordinal: usize) -> Result<DeviceKernels> {
    Err(unusable(ordinal, &candle_core::Error::NotCompiledWithCudaSupport))
}

#[cfg(feature = "cuda")]
fn check_fp8(ordinal: usize, device: &Device) -> Result<()> {
    latentd_kernels::cuda::check_fp8(device).map_err(|why| {
        // A message is one line, whatever RUST_BACKTRACE says.
        let why = match why {
            candle_core::Error::WithBacktrace { inner, .. } => *inner,
            why => why,
        };
        Error::Fp8(format!("CUDA device {ordinal} has no fp8 products ({why})"))
    })
}

/// Says that this program was built without CUDA.
#[cfg(not(feature = "cuda"))]
pub(crate) fn open(ordinal: usize, _fp8: bool, _cache: Option<&Path>) -> Result<Handle> {
    match Device::new_cuda(ordinal) {
        Ok(_) => Err(Error::Device("this program was built without CUDA".into())),
        Err(why) => Err(unusable(ordinal, &why)),
    }
}

fn unusable(ordinal: usize, why: &candle_core::Error) -> Error {
    Error::Device(format!("CUDA device {ordinal} cannot be used: {why}"))
}
