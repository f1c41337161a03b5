//! What the loop needs of a CUDA device beyond tensors and layers: opening it, recording a step, marks to wait for.

use crate::{Error, Result};
use candle_core::Device;
use std::path::Path;

#[cfg(feature = "cuda")]
pub(crate) use latentd_kernels::cuda::{Graph, Mark, latents, rehearse};

/// Opens CUDA device `ordinal`, loading its kernels; with `fp8` it must be able to multiply in fp8. What is found out about
/// it is kept in the folder `cache`.
#[cfg(feature = "cuda")]
pub(crate) fn open(ordinal: usize, fp8: bool, cache: Option<&Path>) -> Result<Device> {
    let device = latentd_kernels::cuda::open(ordinal, cache).map_err(|why| unusable(ordinal, &why))?;
    if fp8 {
        latentd_kernels::cuda::check_fp8(&device).map_err(|why| {
            Error::Device(format!(
                "CUDA device {ordinal} has no fp8 products, which came with Ada and Hopper; give --dtype bf16 ({why})"
            ))
        })?;
    }
    Ok(device)
}

/// Says that this program was built without CUDA.
#[cfg(not(feature = "cuda"))]
pub(crate) fn open(ordinal: usize, _fp8: bool, _cache: Option<&Path>) -> Result<Device> {
    Device::new_cuda(ordinal).map_err(|why| unusable(ordinal, &why))
}

fn unusable(ordinal: usize, why: &candle_core::Error) -> Error {
    Error::Device(format!("CUDA device {ordinal} cannot be used: {why}"))
}
