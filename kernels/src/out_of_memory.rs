//! Running out of a device's memory, told apart from every other failure: the device goes on working, and what is freed can
//! be allocated again.

use candle_core::Error;
use std::error::Error as Cause;
use std::fmt;

/// An allocation failed because the device has no memory left. For failures that do not come from the driver itself; what
/// the driver reports has a type of its own, so ask [`is_out_of_memory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the device is out of memory")
    }
}

impl Cause for OutOfMemory {}

impl From<OutOfMemory> for Error {
    fn from(cause: OutOfMemory) -> Self {
        Self::Cuda(Box::new(cause))
    }
}

/// Whether an operation failed because its device has no memory left, in whatever candle wraps that.
pub fn is_out_of_memory(error: &Error) -> bool {
    match error {
        Error::Cuda(cause) => cause.is::<OutOfMemory>() || is_drivers(&**cause),
        Error::WithBacktrace { inner, .. } | Error::Context { inner, .. } | Error::WithPath { inner, .. } => {
            is_out_of_memory(inner)
        }
        _ => false,
    }
}

/// Whether the driver or one of its libraries reports it.
#[cfg(feature = "cuda")]
fn is_drivers(cause: &(dyn Cause + Send + Sync + 'static)) -> bool {
    use candle_core::cuda_backend::CudaError;
    use cudarc::cublas::{result::CublasError, sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED};
    use cudarc::driver::{DriverError, sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY};
    match cause.downcast_ref::<CudaError>() {
        Some(CudaError::Cuda(DriverError(code)) | CudaError::Load { cuda: DriverError(code), .. }) => {
            *code == CUDA_ERROR_OUT_OF_MEMORY
        }
        Some(CudaError::Cublas(CublasError(status))) => *status == CUBLAS_STATUS_ALLOC_FAILED,
        _ => false,
    }
}

#[cfg(not(feature = "cuda"))]
fn is_drivers(_cause: &(dyn Cause + Send + Sync + 'static)) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_in_what_candle_wraps() {
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let wrapped = Error::from(OutOfMemory).context("a step").with_path("a file");
        let wrapped = Error::WithBacktrace { inner: Box::new(wrapped), backtrace };
        assert!(is_out_of_memory(&wrapped), "{wrapped}");
        for other in [Error::Msg("out of memory".into()), Error::Cuda(Box::new(fmt::Error))] {
            assert!(!is_out_of_memory(&other.context("a step")));
        }
    }

    #[cfg(feature = "cuda")]
    mod cuda {
        use super::*;
        use candle_core::cuda_backend::CudaError;
        use cudarc::driver::{DriverError, sys::CUresult};

        #[test]
        fn the_driver_reports_it_and_other_errors() {
            let reported = |code| is_out_of_memory(&CudaError::Cuda(DriverError(code)).into());
            assert!(reported(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
            // After these a context cannot be used any more.
            assert!(!reported(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
            assert!(!reported(CUresult::CUDA_ERROR_LAUNCH_FAILED));
        }
    }
}
