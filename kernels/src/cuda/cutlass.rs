//! The C functions of `cuda/cutlass/`: tensor-core kernels that launch themselves.

use super::arguments::{FusedAttention, NhwcConvolution};
use super::device::Gpu;
use crate::OutOfMemory;
use candle_core::cuda_backend::WrapErr;
use candle_core::{Result, bail};
use std::ffi::{c_int, c_void};

#[expect(unsafe_code, reason = "the functions of kernels/cuda/cutlass")]
unsafe extern "C" {
    fn latentd_attention_sm90_workspace(of: *const FusedAttention) -> u64;
    fn latentd_attention_sm90_bf16(of: *const FusedAttention, stream: *mut c_void) -> c_int;
    fn latentd_attention_sm80_workspace(of: *const FusedAttention) -> u64;
    fn latentd_attention_sm80_bf16(of: *const FusedAttention, stream: *mut c_void) -> c_int;
    fn latentd_conv2d_nhwc_bf16(of: *const NhwcConvolution, stream: *mut c_void) -> c_int;
}

/// Which attention.
#[derive(Clone, Copy)]
pub(super) enum AttentionKernel {
    /// Dh 64 on Hopper.
    Hopper,
    /// Any Dh that 8 divides, since Ampere.
    Ampere,
}

/// Bytes of workspace that a call needs.
#[expect(unsafe_code, reason = "a C call")]
pub(super) fn attention_workspace(kernel: AttentionKernel, of: &FusedAttention) -> u64 {
    // SAFETY: arithmetic on the sizes.
    unsafe {
        match kernel {
            AttentionKernel::Hopper => latentd_attention_sm90_workspace(of),
            AttentionKernel::Ampere => latentd_attention_sm80_workspace(of),
        }
    }
}

/// # Safety
/// qkv, out and the workspace are device memory of the sizes given, live in the stream's order.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(super) unsafe fn attention(gpu: &Gpu, kernel: AttentionKernel, of: &FusedAttention) -> Result<()> {
    let stream = current(gpu)?;
    // SAFETY: the caller's; the functions check the sizes' range.
    let code = unsafe {
        match kernel {
            AttentionKernel::Hopper => latentd_attention_sm90_bf16(of, stream),
            AttentionKernel::Ampere => latentd_attention_sm80_bf16(of, stream),
        }
    };
    check("attention", code)
}

/// The stream, its context made the thread's: the CUDA runtime behind these functions launches into that.
fn current(gpu: &Gpu) -> Result<*mut c_void> {
    gpu.stream().context().bind_to_thread().w()?;
    Ok(gpu.stream().cu_stream().cast())
}

/// # Safety
/// The addresses are device memory of the sizes given, contiguous, live in the stream's order.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(super) unsafe fn conv2d(gpu: &Gpu, of: &NhwcConvolution) -> Result<()> {
    let stream = current(gpu)?;
    // SAFETY: the caller's; the function checks the sizes' range.
    let code = unsafe { latentd_conv2d_nhwc_bf16(of, stream) };
    check("conv2d", code)
}

/// Messages for the codes of `cuda/cutlass/common.cuh`.
fn check(op: &str, code: c_int) -> Result<()> {
    let why = match code {
        0 => return Ok(()),
        1 => "an address is null or not aligned to 16 bytes".to_owned(),
        2 => "a size is not supported".to_owned(),
        3 => "the workspace is too small or not aligned".to_owned(),
        4 => "the scale is not a positive number".to_owned(),
        5 => "the driver refused a tensor map".to_owned(),
        // cudaErrorMemoryAllocation: the runtime loads a kernel, and its local memory, when it is first launched.
        1002 => return Err(OutOfMemory.into()),
        code if code > 1000 => format!("CUDA error {}", code - 1000),
        code => format!("unknown code {code}"),
    };
    bail!("{op}: {why}")
}
