//! GroupNorm of channels-last pictures: partial statistics, then one pass that combines and applies them.

use super::elementwise::{vector, widest};
use super::operand::{Input, Output, gpu, size};
use crate::Activation;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{DType, Result, Tensor, bail};

/// Threads of a block, as in `cuda/group_norm.cu`.
const THREADS: usize = 384;

/// Chunks of a picture: two blocks for each processor of an H100. Not of the card at hand, on which no bit may depend.
const MOST_CHUNKS: usize = 264;

/// Elements below which a chunk is not worth a block: ten 16-byte loads of bf16 for each thread.
const CHUNK_ELEMENTS: usize = 32768;

/// See [`crate::group_norm()`], which has checked the shapes.
///
/// x may lie as `[B, H, W, C]` (a permuted view), and the result does; any other x is copied.
///
/// # Errors
/// The types differ or a size is too large.
#[expect(unsafe_code, reason = "two kernel launches")]
pub fn group_norm(
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    let silu: u32 = match act {
        Activation::None => 0,
        Activation::Silu => 1,
        other => bail!("group_norm: activation {other:?} is not fused, expected None or Silu"),
    };
    let gpu = gpu("group_norm", x)?;
    let x = x.permute((0, 2, 3, 1))?.contiguous()?;
    let (batch, height, width, channels) = x.dims4()?;
    let statistics = gpu.kernel("group_norm_statistics", x.dtype())?;
    let apply = gpu.kernel("group_norm_apply", x.dtype())?;
    let input = Input::new("group_norm", &x);
    let (w, b) = (Input::typed("group_norm", w, x.dtype())?, Input::typed("group_norm", b, x.dtype())?);
    let (x_at, w_at, b_at) = (input.contiguous()?, w.contiguous()?, b.contiguous()?);
    let out = Output::new(&gpu, input.dtype, x.shape())?;
    if x.elem_count() == 0 {
        return out.tensor().permute((0, 3, 1, 2));
    }

    let pointers = [x_at, w_at, b_at, out.pointer];
    let cut = Cut::new(height * width, channels / groups, groups, input.dtype, &pointers);
    let partials = Output::new(&gpu, DType::F32, (batch, groups, cut.chunks, 2))?;
    let area = size("group_norm", height * width)?;
    let (channels, group_channels) = (size("group_norm", channels)?, size("group_norm", channels / groups)?);
    let (tile_groups, chunks) = (size("group_norm", cut.tile_groups)?, size("group_norm", cut.chunks)?);
    let (chunk, vector, eps) = (size("group_norm", cut.chunk)?, cut.vector, eps as f32);
    let blocks = size("group_norm", batch * groups.div_ceil(cut.tile_groups) * cut.chunks)?;
    let config = |shared_floats: usize| LaunchConfig {
        grid_dim: (blocks, 1, 1),
        block_dim: (THREADS as u32, 1, 1),
        shared_mem_bytes: (shared_floats * size_of::<f32>()) as u32,
    };

    let mut launch = gpu.stream().launch_builder(&statistics);
    launch.arg(&x_at).arg(&partials.pointer).arg(&area).arg(&channels).arg(&group_channels);
    launch.arg(&tile_groups).arg(&chunks).arg(&chunk).arg(&vector);
    // SAFETY: (const T*, float2*, u32 x 7); x is contiguous and there is a pair of partials for each block's groups.
    unsafe { launch.launch(config((2 * vector as usize + 1) * (THREADS + 1))) }.w()?;

    let mut launch = gpu.stream().launch_builder(&apply);
    launch.arg(&x_at).arg(&w_at).arg(&b_at).arg(&partials.pointer).arg(&out.pointer);
    launch.arg(&area).arg(&channels).arg(&group_channels).arg(&tile_groups).arg(&chunks).arg(&chunk);
    launch.arg(&eps).arg(&silu).arg(&vector);
    // SAFETY: (const T*, const T*, const T*, const float2*, T*, u32 x 6, f32, u32, u32); sizes as above, w and b have an
    // element for each channel.
    unsafe { launch.launch(config(2 * cut.tile_groups)) }.w()?;
    out.tensor().permute((0, 3, 1, 2))
}

/// How a picture is cut into blocks; depends on its size and type alone.
struct Cut {
    /// Elements that move as one word.
    vector: u32,
    /// Groups of a block: all, if their channels are not more than its threads' vectors.
    tile_groups: usize,
    /// Chunks of pixels, and pixels of all but the last.
    chunks: usize,
    chunk: usize,
}

impl Cut {
    fn new(area: usize, group_channels: usize, groups: usize, dtype: DType, pointers: &[u64]) -> Self {
        let tile = |vector: u32| (THREADS * vector as usize / group_channels).clamp(1, groups);
        let channels = groups * group_channels;
        let wide = widest(dtype) as u32;
        let vector = vector(dtype, &[channels, tile(wide) * group_channels], pointers);
        let tile_groups = tile(vector);
        let chunks = (area * tile_groups * group_channels / CHUNK_ELEMENTS).clamp(1, MOST_CHUNKS);
        let chunk = area.div_ceil(chunks);
        Self { vector, tile_groups, chunks: area.div_ceil(chunk), chunk }
    }
}
