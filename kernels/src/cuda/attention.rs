//! Attention on GPUs: the choice between tensor-core kernels and the portable one.

use super::arguments::{
    ATTENTION_QUERIES, ATTENTION_THREADS, FusedAttention, Out, PortableAttention, launch,
};
use super::cutlass::{self, AttentionKernel};
use super::operand::{Input, Output, gpu, size};
use candle_core::{DType, Result, Tensor, bail};
use cudarc::driver::LaunchConfig;

pub use super::select::Attention as Kernel;

/// `softmax(q k^T / sqrt(Dh)) v` for each head, every token attending to all; f32 sums in every case.
///
/// `qkv`: `[B, L, 3, H, Dh]` f32|bf16, contiguous. Returns `[B, L, H * Dh]`.
///
/// # Errors
/// The shape, layout or type is another, or f32 heads are wider than 512.
pub fn attention(qkv: &Tensor) -> Result<Tensor> {
    for kernel in Kernel::ALL {
        if kernel.takes(qkv)? {
            return kernel.attention(qkv);
        }
    }
    portable(qkv)
}

impl Kernel {
    /// Whether the kernel takes `qkv`, `[B, L, 3, H, Dh]` as for [`attention()`], on the GPU that it lies on.
    ///
    /// # Errors
    /// The shape or device is another.
    pub fn takes(self, qkv: &Tensor) -> Result<bool> {
        let (of, gpu) = (Heads::new(qkv)?, gpu("attention", qkv)?);
        let aligned = Input::new("attention", qkv).pointer()?.is_multiple_of(16);
        let tensor_cores = qkv.dtype() == DType::BF16 && aligned && of.fits_tensor_cores();
        let runs = self.takes_heads(of.head_dim, gpu.kernels.attention);
        Ok(runs && (tensor_cores || self == Self::Portable))
    }

    /// [`attention()`] of `[B, L, 3, H, Dh]` by this kernel and no other. Returns `[B, L, H * Dh]`.
    ///
    /// # Errors
    /// The kernel does not [take](Self::takes) `qkv`, or the layout is another.
    pub fn attention(self, qkv: &Tensor) -> Result<Tensor> {
        if !self.takes(qkv)? {
            bail!("attention: {self:?} does not take {:?} {:?} here", qkv.dtype(), qkv.dims())
        }
        match self {
            Self::Hopper => Heads::new(qkv)?.tensor_cores(qkv, AttentionKernel::Hopper),
            Self::Ampere => Heads::new(qkv)?.tensor_cores(qkv, AttentionKernel::Ampere),
            Self::Portable => portable(qkv),
        }
    }
}

/// [`attention`] of `[B, L, 3, H, Dh]` without tensor cores, on every card. Returns `[B, L, H * Dh]`.
///
/// # Errors
/// The shape, layout or type is another, or heads are wider than 512.
#[expect(unsafe_code, reason = "a kernel launch")]
pub fn portable(qkv: &Tensor) -> Result<Tensor> {
    let of = Heads::new(qkv)?;
    let gpu = gpu("attention", qkv)?;
    let Some(most) = [64, 128, 256, Kernel::WIDEST_PORTABLE].into_iter().find(|&most| of.head_dim <= most)
    else {
        bail!("attention: heads of {} elements, expected at most {}", of.head_dim, Kernel::WIDEST_PORTABLE)
    };
    let input = Input::new("attention", qkv);
    let function = gpu.kernel(&format!("attention_{most}"), input.dtype)?;
    let out = Output::new(&gpu, input.dtype, of.output())?;
    let arguments = PortableAttention {
        qkv: input.contiguous()?.into(),
        out: out.pointer.into(),
        length: size("attention", of.length)?,
        heads: size("attention", of.heads)?,
        head_dim: size("attention", of.head_dim)?,
        scale: of.scale(),
    };
    let queries = of.length.div_ceil(ATTENTION_QUERIES as usize);
    let blocks = size("attention", queries * of.heads * of.batch)?;
    if blocks > 0 {
        let block_dim = (ATTENTION_THREADS, 1, 1);
        let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim, shared_mem_bytes: 0 };
        // SAFETY: qkv and out have the sizes given, and there is a block for each ATTENTION_QUERIES of a head.
        unsafe { launch(gpu.stream(), &function, config, &arguments)? };
    }
    Ok(out.tensor())
}

/// `[batch, length, 3, heads, head_dim]`
#[derive(Clone, Copy)]
struct Heads {
    batch: usize,
    length: usize,
    heads: usize,
    head_dim: usize,
}

impl Heads {
    fn new(qkv: &Tensor) -> Result<Self> {
        match qkv.dims() {
            &[batch, length, 3, heads, head_dim] if head_dim > 0 => {
                Ok(Self { batch, length, heads, head_dim })
            }
            dims => bail!("attention: expected qkv [B, L, 3, H, Dh], got {dims:?}"),
        }
    }

    fn output(&self) -> (usize, usize, usize) {
        (self.batch, self.length, self.heads * self.head_dim)
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }

    /// They keep offsets in 32 bits and count heads and batches along sides of the grid that end at 65535.
    fn fits_tensor_cores(&self) -> bool {
        let elements = self.batch * self.length * 3 * self.heads * self.head_dim;
        elements <= i32::MAX as usize && self.batch <= 65535 && self.heads <= 65535
    }

    #[expect(unsafe_code, reason = "a kernel launch")]
    fn tensor_cores(&self, qkv: &Tensor, kernel: AttentionKernel) -> Result<Tensor> {
        let gpu = gpu("attention", qkv)?;
        let input = Input::new("attention", qkv);
        let out = Output::new(&gpu, input.dtype, self.output())?;
        let mut arguments = FusedAttention {
            qkv: input.contiguous()?.into(),
            out: out.pointer.into(),
            workspace: Out::NONE,
            workspace_bytes: 0,
            batch: self.batch as i32,
            length: self.length as i32,
            heads: self.heads as i32,
            head_dim: self.head_dim as i32,
            scale: self.scale(),
        };
        arguments.workspace_bytes = cutlass::attention_workspace(kernel, &arguments);
        let workspace = Output::new(&gpu, DType::U8, arguments.workspace_bytes.max(1) as usize)?;
        arguments.workspace = workspace.pointer.into();
        // SAFETY: qkv and out have the sizes given, the workspace the bytes asked for; all live in the stream's order.
        unsafe { cutlass::attention(&gpu, kernel, &arguments)? };
        Ok(out.tensor())
    }
}
