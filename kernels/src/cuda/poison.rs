//! Outputs that hold NaN before a kernel fills them, so that a test sees what a kernel leaves out.

use super::device::Gpu;
use candle_core::Result;
use candle_core::cuda_backend::WrapErr;
use cudarc::driver::result;
use std::cell::Cell;

/// NaN in f32, bf16 and e4m3 alike, when every byte is this one.
const NAN_BYTE: u8 = 0xff;

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`. What this crate's ops return in it, on this thread and on GPUs, is NaN wherever their kernels do not
/// write. It costs a pass over every output, so it is for tests.
pub fn poisoned<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACTIVE.set(self.0);
        }
    }
    let _restore = Restore(ACTIVE.replace(true));
    work()
}

/// Fills memory that was just taken, if [`poisoned`] asks for it.
#[expect(unsafe_code, reason = "a driver call on an address")]
pub(super) fn fill(gpu: &Gpu, pointer: u64, bytes: usize) -> Result<()> {
    if bytes == 0 || !ACTIVE.get() {
        return Ok(());
    }
    // SAFETY: `bytes` of device memory begin at `pointer`, which its stream, this one, has just given out and nobody
    // else has yet.
    unsafe { result::memset_d8_async(pointer, NAN_BYTE, bytes, gpu.stream().cu_stream()) }.w()
}

#[cfg(test)]
mod tests {
    use super::super::operand::{Output, gpu};
    use super::*;
    use candle_core::{DType, Device, Tensor};

    /// Needs a GPU, real or emulated.
    #[test]
    fn what_no_kernel_writes_is_nan() -> Result<()> {
        let device = crate::cuda::open(0, None)?;
        let gpu = gpu("a test", &Tensor::zeros(1, DType::F32, &device)?)?;
        for dtype in [DType::F32, DType::BF16] {
            let unwritten = poisoned(|| Output::new(&gpu, dtype, (3, 50)))?.tensor();
            let values: Vec<f64> =
                unwritten.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
            assert!(values.iter().all(|value| value.is_nan()), "{dtype:?}");
        }
        assert!(!ACTIVE.get(), "it ends");
        Ok(())
    }
}
