//! GroupNorm of channels-last images: partial statistics, then one pass that combines and applies them.

use super::arguments::{Cut, GROUP_NORM_THREADS, GroupNormApply, GroupNormStatistics, launch};
use super::elementwise::{vector, widest};
use super::operand::{Input, Output, gpu, size};
use crate::options::Activation;
use candle_core::{DType, Result, Tensor, bail};
use cudarc::driver::LaunchConfig;

/// Chunks of an image: two blocks for each processor of an H100. Not of the card at hand, on which no bit may depend.
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
    let cut = Cut::new(height * width, channels / groups, groups, input.dtype, &pointers)?;
    let partials = Output::new(&gpu, DType::F32, (batch, groups, cut.splits as usize, 2))?;
    let tiles = groups.div_ceil(cut.tile_groups as usize);
    let blocks = size("group_norm", batch * tiles * cut.splits as usize)?;
    let config = |shared_floats: u32| LaunchConfig {
        grid_dim: (blocks, 1, 1),
        block_dim: (GROUP_NORM_THREADS, 1, 1),
        shared_mem_bytes: shared_floats * size_of::<f32>() as u32,
    };

    let arguments = GroupNormStatistics { x: x_at.into(), partials: partials.pointer.into(), cut };
    let shared = config((2 * cut.vector + 1) * (GROUP_NORM_THREADS + 1));
    // SAFETY: x is contiguous and there is a pair of partials for each block's groups.
    unsafe { launch(gpu.stream(), &statistics, shared, &arguments)? };

    let arguments = GroupNormApply {
        x: x_at.into(),
        w: w_at.into(),
        b: b_at.into(),
        partials: partials.pointer.into(),
        out: out.pointer.into(),
        cut,
        eps: eps as f32,
        silu,
    };
    // SAFETY: sizes as above, w and b have an element for each channel.
    unsafe { launch(gpu.stream(), &apply, config(2 * cut.tile_groups), &arguments)? };
    out.tensor().permute((0, 3, 1, 2))
}

impl Cut {
    fn new(
        area: usize,
        group_channels: usize,
        groups: usize,
        dtype: DType,
        pointers: &[u64],
    ) -> Result<Self> {
        let threads = GROUP_NORM_THREADS as usize;
        let tile = |vector: u32| (threads * vector as usize / group_channels).clamp(1, groups);
        let channels = groups * group_channels;
        let wide = widest(dtype) as u32;
        let vector = vector(dtype, &[channels, tile(wide) * group_channels], pointers);
        let tile_groups = tile(vector);
        let chunks = (area * tile_groups * group_channels / CHUNK_ELEMENTS).clamp(1, MOST_CHUNKS);
        let chunk = area.div_ceil(chunks);
        let size = |n: usize| size("group_norm", n);
        Ok(Self {
            area: size(area)?,
            channels: size(channels)?,
            group_channels: size(group_channels)?,
            tile_groups: size(tile_groups)?,
            splits: size(area.div_ceil(chunk))?,
            chunk: size(chunk)?,
            vector,
        })
    }
}
