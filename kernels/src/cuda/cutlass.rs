//! The C functions of `cuda/cutlass/`: tensor-core kernels that launch themselves.

use super::device::Gpu;
use candle_core::cuda_backend::WrapErr;
use candle_core::{Result, bail};
use std::ffi::{c_int, c_void};

#[expect(unsafe_code, reason = "the functions of kernels/cuda/cutlass")]
unsafe extern "C" {
    fn latentd_attention_sm90_workspace(batch: c_int, length: c_int, heads: c_int) -> usize;

    fn latentd_attention_sm90_bf16(
        qkv: *const c_void,
        out: *mut c_void,
        batch: c_int,
        length: c_int,
        heads: c_int,
        scale: f32,
        workspace: *mut c_void,
        workspace_bytes: usize,
        stream: *mut c_void,
    ) -> c_int;

    fn latentd_attention_sm80_workspace(batch: c_int, length: c_int, heads: c_int, head_dim: c_int) -> usize;

    fn latentd_attention_sm80_bf16(
        qkv: *const c_void,
        out: *mut c_void,
        batch: c_int,
        length: c_int,
        heads: c_int,
        head_dim: c_int,
        scale: f32,
        workspace: *mut c_void,
        workspace_bytes: usize,
        stream: *mut c_void,
    ) -> c_int;

    fn latentd_conv2d_nhwc_bf16(
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        residual: *const c_void,
        out: *mut c_void,
        n: c_int,
        h: c_int,
        w: c_int,
        c: c_int,
        k: c_int,
        kernel: c_int,
        workspace: *mut c_void,
        workspace_bytes: usize,
        stream: *mut c_void,
    ) -> c_int;
}

/// Attention in bf16.
pub(super) struct Attention {
    /// `[B, L, 3, H, Dh]`, contiguous.
    pub(super) qkv: u64,
    /// `[B, L, H, Dh]`.
    pub(super) out: u64,
    /// B, L, H, Dh.
    pub(super) sizes: [c_int; 4],
    pub(super) scale: f32,
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
pub(super) fn attention_workspace(kernel: AttentionKernel, at: &Attention) -> usize {
    let [batch, length, heads, head_dim] = at.sizes;
    // SAFETY: arithmetic on its arguments.
    unsafe {
        match kernel {
            AttentionKernel::Hopper => latentd_attention_sm90_workspace(batch, length, heads),
            AttentionKernel::Ampere => latentd_attention_sm80_workspace(batch, length, heads, head_dim),
        }
    }
}

#[expect(unsafe_code, reason = "a C call")]
pub(super) fn attention(
    gpu: &Gpu,
    kernel: AttentionKernel,
    at: &Attention,
    (workspace, bytes): (u64, usize),
) -> Result<()> {
    let stream = current(gpu)?;
    let [batch, length, heads, head_dim] = at.sizes;
    let (qkv, out, workspace) = (at.qkv as *const c_void, at.out as *mut c_void, workspace as *mut c_void);
    // SAFETY: qkv and out are device memory of the sizes given, and the workspace has the bytes asked for; all live in
    // the stream's order.
    let code = unsafe {
        match kernel {
            AttentionKernel::Hopper => latentd_attention_sm90_bf16(
                qkv, out, batch, length, heads, at.scale, workspace, bytes, stream,
            ),
            AttentionKernel::Ampere => latentd_attention_sm80_bf16(
                qkv, out, batch, length, heads, head_dim, at.scale, workspace, bytes, stream,
            ),
        }
    };
    check("attention", code)
}

/// The stream, its context made the thread's: the CUDA runtime behind these functions launches into that.
fn current(gpu: &Gpu) -> Result<*mut c_void> {
    gpu.stream().context().bind_to_thread().w()?;
    Ok(gpu.stream().cu_stream().cast())
}

/// A convolution that keeps the size, bf16 and channels-last. Everything contiguous.
pub(super) struct Convolution {
    pub(super) x: u64,
    /// `[K, kernel, kernel, C]`.
    pub(super) weight: u64,
    pub(super) bias: u64,
    pub(super) out: u64,
    /// N, H, W, C, K.
    pub(super) sizes: [u32; 5],
    /// 1 or 3.
    pub(super) kernel: u32,
}

#[expect(unsafe_code, reason = "a C call")]
pub(super) fn conv2d(gpu: &Gpu, at: &Convolution) -> Result<()> {
    let stream = current(gpu)?;
    let [n, h, w, c, k] = at.sizes.map(|size| c_int::try_from(size).unwrap_or(-1));
    // SAFETY: the addresses are live device memory of these sizes, as the op's shape checks assure; the function checks
    // the sizes' range and takes no workspace.
    let code = unsafe {
        latentd_conv2d_nhwc_bf16(
            at.x as *const c_void,
            at.weight as *const c_void,
            at.bias as *const c_void,
            std::ptr::null(),
            at.out as *mut c_void,
            n,
            h,
            w,
            c,
            k,
            c_int::try_from(at.kernel).unwrap_or(-1),
            std::ptr::null_mut(),
            0,
            stream,
        )
    };
    check("conv2d", code)
}

/// The codes of `cuda/cutlass/common.cuh` in words.
fn check(op: &str, code: c_int) -> Result<()> {
    let why = match code {
        0 => return Ok(()),
        1 => "an address is null or not aligned to 16 bytes".to_owned(),
        2 => "a size is not supported".to_owned(),
        3 => "the workspace is too small or not aligned".to_owned(),
        4 => "the scale is not a positive number".to_owned(),
        5 => "the driver refused a tensor map".to_owned(),
        code if code > 1000 => format!("CUDA error {}", code - 1000),
        code => format!("unknown code {code}"),
    };
    bail!("{op}: {why}")
}
