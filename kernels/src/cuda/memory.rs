//! The driver's memory pool of a card, which all of a process' tensors on it come from.

use candle_core::cuda_backend::WrapErr;
use candle_core::{Device, Result};
use cudarc::driver::{CudaContext, sys};
use std::ffi::c_void;
use sys::CUmemPool_attribute as Attribute;

/// Bytes of a card's memory that this process' tensors take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// By now.
    pub now: u64,
    /// The most since the process began, or since [`Self::reset_peak`].
    pub peak: u64,
}

impl MemoryUse {
    /// Of the card that a device is on.
    ///
    /// # Errors
    /// The driver refused.
    pub fn of(device: &Device) -> Result<Self> {
        let pool = pool(device.as_cuda_device()?.cuda_stream().context().cu_device())?;
        let (now, peak) =
            (Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH);
        Ok(Self { now: get(pool, now)?, peak: get(pool, peak)? })
    }

    /// Counts the peak from now on.
    ///
    /// # Errors
    /// The driver refused.
    pub fn reset_peak(device: &Device) -> Result<()> {
        let pool = pool(device.as_cuda_device()?.cuda_stream().context().cu_device())?;
        set(pool, Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH, 0)
    }
}

/// By default the driver gives freed memory back at every synchronisation, and the next step pays to get it again.
pub(super) fn keep_freed(device: sys::CUdevice) -> Result<()> {
    set(pool(device)?, Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, u64::MAX)
}

/// Waits for the work of a device, and gives the memory that this process has freed on its card back to the driver. Until
/// then only streams that the driver knows to be in order can use it again.
///
/// # Errors
/// Work on the device failed.
pub fn free_unused(device: &Device) -> Result<()> {
    let stream = device.as_cuda_device()?.cuda_stream();
    stream.synchronize().w()?;
    give_back_freed(stream.context())
}

/// Gives back to the driver what was freed, in the order of streams, before the last synchronisation.
#[expect(unsafe_code, reason = "the driver's memory pools have no safe interface")]
pub(super) fn give_back_freed(context: &CudaContext) -> Result<()> {
    context.bind_to_thread().w()?;
    // SAFETY: the pool exists; nothing that is allocated is touched.
    unsafe { sys::cuMemPoolTrimTo(pool(context.cu_device())?, 0).result().w() }
}

#[expect(unsafe_code, reason = "the driver's memory pools have no safe interface")]
fn pool(device: sys::CUdevice) -> Result<sys::CUmemoryPool> {
    let mut pool = std::ptr::null_mut();
    // SAFETY: the device exists, since a context on it does; the driver writes one handle.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, device).result().w()? };
    Ok(pool)
}

#[expect(unsafe_code, reason = "the driver's memory pools have no safe interface")]
fn get(pool: sys::CUmemoryPool, attribute: Attribute) -> Result<u64> {
    let mut value = 0u64;
    // SAFETY: every attribute asked for here is a u64, which the driver writes.
    unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast::<c_void>()).result().w()? };
    Ok(value)
}

#[expect(unsafe_code, reason = "the driver's memory pools have no safe interface")]
fn set(pool: sys::CUmemoryPool, attribute: Attribute, mut value: u64) -> Result<()> {
    // SAFETY: every attribute set here is a u64, which the driver copies.
    unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut value).cast::<c_void>()).result().w() }
}
