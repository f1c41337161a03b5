//! Launches `cuda/joint_qkv.cu`: image and text side by side for joint attention, q and k normalised.

use super::operand::{Input, Output, gpu, size};
use super::rows::{in_words, same_device};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{LaunchConfig, PushKernelArg};
use candle_core::{Result, Tensor, bail};

const OP: &str = "joint_qkv";

/// As in `cuda/joint_qkv.cu`.
const THREADS: u32 = 256;
const WORD_BYTES: usize = 16;
const WARP: usize = 32;

/// See [`crate::joint_qkv()`], which has checked the shapes.
///
/// # Errors
/// Types or devices differ, or a token is not contiguous.
#[expect(unsafe_code, reason = "a kernel launch")]
pub(crate) fn joint_qkv(
    image: &Tensor,
    text: Option<&Tensor>,
    norms: Option<&Tensor>,
    heads: usize,
    eps: f64,
) -> Result<Tensor> {
    same_device(OP, image, &text.into_iter().chain(norms).collect::<Vec<_>>())?;
    let (gpu, dtype, eps) = (gpu(OP, image)?, image.dtype(), eps as f32);
    let kernel = gpu.kernel("joint_qkv", dtype)?;
    let image_in = Input::new(OP, image);
    let text_in = text.map(|text| Input::typed(OP, text, dtype)).transpose()?;
    let norms_in = norms.map(|norms| Input::typed(OP, norms, dtype)).transpose()?;
    let image = image_in.rows()?;
    let text = text_in.as_ref().map(Input::rows).transpose()?;
    let norms = match &norms_in {
        Some(norms) => {
            norms.contiguous()?;
            Some(norms.rows()?)
        }
        None => None,
    };

    let text_rows = text.map_or(0, |text| text.rows);
    let (batch, length) = (image.batch as usize, image.rows as usize + text_rows as usize);
    let head_dim = image.width as usize / (3 * heads);
    let tokens = size(OP, batch * length)?;
    if tokens == 0 || tokens > i32::MAX as u32 || image.width == 0 || image.width > 1 << 30 {
        bail!("{OP}: {batch} x {length} tokens of {} are not what a launch takes", image.width)
    }
    let vectors = head_dim.div_ceil(WORD_BYTES / dtype.size_in_bytes());
    let lanes = vectors.next_power_of_two().min(WARP) as u32;
    let words = in_words(&image, dtype) && text.is_none_or(|text| in_words(&text, dtype));
    let fast = u32::from(words && norms.is_none_or(|norms| in_words(&norms, dtype) && vectors <= WARP));
    let out = Output::new(&gpu, dtype, (batch, length, 3, heads, head_dim))?;
    let config = LaunchConfig { grid_dim: (tokens, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    let (heads, head_dim) = (size(OP, heads)?, size(OP, head_dim)?);
    let (text_pointer, norms_pointer) = (text.map_or(0, |t| t.pointer), norms.map_or(0, |n| n.pointer));
    let (text_batch, text_row) = text.map_or((0, 0), |t| (t.batch_stride, t.row_stride));

    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&out.pointer).arg(&image.pointer).arg(&text_pointer).arg(&norms_pointer);
    launch.arg(&image.batch_stride).arg(&image.row_stride).arg(&text_batch).arg(&text_row);
    launch.arg(&image.rows).arg(&text_rows).arg(&heads).arg(&head_dim).arg(&lanes).arg(&fast).arg(&eps);
    // SAFETY: (T*, const T* x 3, i64 x 4, u32 x 6, f32); image and text have `rows` tokens of 3 * heads * head_dim for
    // each batch element, norms (if not null) two rows of head_dim for each of them, and out all tokens.
    unsafe { launch.launch(config) }.w()?;
    Ok(out.tensor())
}
