//! Copies to a device from pinned host memory, on a stream of their own, while the device's own stream computes.

use super::allocation;
use super::device::{Gpu, between_captures};
use candle_core::cuda_backend::WrapErr;
use candle_core::{DType, Device, Result, Shape, Tensor};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, HostSlice, PinnedHostSlice, result, sys};
use std::sync::Arc;

/// A tensor that is on its way to a device.
pub struct Upload {
    tensor: Tensor,
    copied: CudaEvent,
    main: Arc<CudaStream>,
}

/// Has `fill` write a contiguous tensor into pinned memory and begins to copy it to the device. The device's own stream is
/// not held up by that, before [`Upload::tensor`].
///
/// - `dtype`: f32|bf16|u8
///
/// # Errors
/// `fill` failed, or the host or the device has too little memory.
#[expect(unsafe_code, reason = "a copy that the safe interface has for whole buffers only")]
pub fn upload(
    device: &Device,
    dtype: DType,
    shape: impl Into<Shape>,
    fill: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<Upload> {
    let (gpu, shape) = (Gpu::of(device.as_cuda_device()?)?, shape.into());
    let uploads = gpu.uploads()?;
    let (main, bytes) = (gpu.main(), shape.elem_count() * dtype.size_in_bytes());
    let mut buffer = match uploads.first() {
        Some(first) if first.len() >= bytes => first,
        too_small => make_room(main.context(), too_small, bytes)?,
    };
    let keep = |buffer| {
        if let Some(spare) = uploads.keep(buffer) {
            between_captures(|| drop(spare));
        }
    };
    // The memory is there once the device's own stream has come so far: not behind what is put on it while `fill` reads.
    let tensor = allocation::uninitialised(&gpu, main, dtype, shape)?;
    let allocated = event_of(main)?;
    // Waits for the copy before this one in the buffer.
    if let Err(error) = buffer.as_mut_slice().w().and_then(|buffer| fill(&mut buffer[..bytes])) {
        keep(buffer);
        return Err(error);
    }
    uploads.stream.wait(&allocated).w()?;
    // SAFETY: the buffer holds the bytes and knows until when the stream reads it; the tensor has as many, which nothing
    // else touches before `copied`.
    unsafe {
        let (from, _busy) = buffer.stream_synced_slice(&uploads.stream);
        let to = allocation::address(&tensor)?;
        result::memcpy_htod_async(to, &from[..bytes], uploads.stream.cu_stream()).w()?;
    }
    let copied = event_of(&uploads.stream)?;
    keep(buffer);
    Ok(Upload { tensor, copied, main: main.clone() })
}

/// A new buffer in the place of one. Pinned memory is taken and given back while no thread captures, since the driver may wait
/// for the device then.
#[expect(unsafe_code, reason = "an uninitialised allocation is unsafe")]
fn make_room(
    context: &Arc<CudaContext>,
    instead_of: Option<PinnedHostSlice<u8>>,
    bytes: usize,
) -> Result<PinnedHostSlice<u8>> {
    between_captures(|| {
        drop(instead_of);
        // SAFETY: `upload` fills what it copies.
        unsafe { context.alloc_pinned(bytes).w() }
    })
}

impl Upload {
    /// The tensor; what is put on the device's own stream from now on waits for the copy.
    pub fn tensor(self) -> Tensor {
        self.tensor.clone()
    }
}

impl Drop for Upload {
    /// The tensor's memory is given back in the order of the device's own stream, which must not come before the copy.
    fn drop(&mut self) {
        let context = self.main.context().clone();
        context.record_err(self.main.wait(&self.copied));
    }
}

/// An event behind all that has been put on a stream.
fn event_of(stream: &CudaStream) -> Result<CudaEvent> {
    let event = stream.context().new_event(Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)).w()?;
    event.record(stream).w()?;
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::*;

    fn counted(count: usize) -> Vec<f32> {
        (0..count).map(|value| value as f32).collect()
    }

    /// Buffers are used again, larger ones take the place of smaller ones, and what is not waited for is given back.
    #[test]
    fn what_is_uploaded_arrives() -> Result<()> {
        let gpu = open(0, None)?;
        let upload = |count: usize| {
            upload(&gpu, DType::F32, count, |bytes| {
                assert_eq!(bytes.len(), 4 * count);
                bytes.copy_from_slice(bytemuck::cast_slice(&counted(count)));
                Ok(())
            })
        };
        let uploads = [7, 1000, 3, 5000, 5000, 1].map(upload);
        for (index, arrives) in uploads.into_iter().enumerate() {
            let arrives = arrives?;
            if index == 4 {
                continue;
            }
            let count = arrives.tensor.elem_count();
            assert_eq!(arrives.tensor().to_vec1::<f32>()?, counted(count));
        }
        let refused = super::upload(&gpu, DType::F32, 3, |_| candle_core::bail!("no file"));
        assert!(refused.err().is_some_and(|why| why.to_string().contains("no file")));
        assert_eq!(upload(2)?.tensor().to_vec1::<f32>()?, counted(2));
        Ok(())
    }
}
