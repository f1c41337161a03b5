//! Device memory behind candle tensors: its address, and how it is allocated.

use super::device::Gpu;
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{DType, Result, Shape, Storage, Tensor, bail};
use cudarc::driver::{CudaStream, DevicePtr};
use half::bf16;
use std::sync::Arc;

/// The address of a tensor's memory.
pub(super) fn base(storage: &CudaStorage) -> Result<u64> {
    let stream = storage.device.cuda_stream();
    Ok(match &storage.slice {
        CudaStorageSlice::F32(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::BF16(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U8(slice) => slice.device_ptr(&stream).0,
        CudaStorageSlice::U32(slice) => slice.device_ptr(&stream).0,
        _ => bail!("expected f32, bf16, u32 or u8"),
    })
}

/// The address of the memory that a tensor is a view of.
pub(super) fn address(tensor: &Tensor) -> Result<u64> {
    match &*tensor.storage_and_layout().0 {
        Storage::Cuda(storage) => base(storage),
        _ => bail!("expected a CUDA tensor"),
    }
}

/// Memory of a type that ops make, given back in the order of `stream`, which is the device's own by any handle.
#[expect(unsafe_code, reason = "an uninitialised allocation is unsafe")]
pub(super) fn uninitialised(
    gpu: &Gpu,
    stream: &Arc<CudaStream>,
    dtype: DType,
    shape: Shape,
) -> Result<Tensor> {
    let (device, count) = (gpu.device.clone(), shape.elem_count());
    // SAFETY: nothing reads the memory before a kernel on the same stream, which the caller launches, fills it.
    let storage = unsafe {
        match dtype {
            DType::F32 => CudaStorage::wrap_cuda_slice(stream.alloc::<f32>(count).w()?, device),
            DType::BF16 => CudaStorage::wrap_cuda_slice(stream.alloc::<bf16>(count).w()?, device),
            DType::U8 => CudaStorage::wrap_cuda_slice(stream.alloc::<u8>(count).w()?, device),
            other => bail!("expected f32, bf16 or u8, got {other:?}"),
        }
    };
    Ok(Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false))
}

#[cfg(test)]
mod tests {
    use super::super::free_unused;
    use super::super::operand::{Output, gpu};
    use super::*;
    use crate::is_out_of_memory;

    /// Needs a GPU, real or emulated: it refuses 1 TiB, of candle's allocations and of ours, and works on.
    #[test]
    fn a_device_without_memory_says_so_and_works_on() -> Result<()> {
        let device = crate::cuda::open(0, None)?;
        let gpu = gpu("a test", &Tensor::zeros(1, DType::F32, &device)?)?;
        let full = Tensor::zeros(1usize << 38, DType::F32, &device).expect_err("no memory");
        assert!(is_out_of_memory(&full), "{full}");
        let full = Output::new(&gpu, DType::F32, (1usize << 20, 1usize << 18)).err().expect("no memory");
        assert!(is_out_of_memory(&full), "{full}");
        free_unused(&device)?;
        assert_eq!(Tensor::ones(1, DType::F32, &device)?.to_vec1::<f32>()?, [1.0]);
        Ok(())
    }
}
