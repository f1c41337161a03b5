//! Launches `cuda/joint_qkv.cu`: image and text side by side for joint attention, q and k normalised.

use super::arguments::{In, JOINT_QKV_THREADS, JointQkv, Strides, WARP, WORD_BYTES, launch};
use super::operand::{Input, Output, gpu, size};
use super::rows::{in_words, same_device};
use candle_core::{Result, Tensor, bail};
use cudarc::driver::LaunchConfig;

const OP: &str = "joint_qkv";

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
    let (gpu, dtype) = (gpu(OP, image)?, image.dtype());
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
    let head_dim = size(OP, head_dim)?;
    let vectors = head_dim.div_ceil(WORD_BYTES / dtype.size_in_bytes() as u32);
    let words = in_words(&image, dtype) && text.is_none_or(|text| in_words(&text, dtype));
    let fast = u32::from(words && norms.is_none_or(|norms| in_words(&norms, dtype) && vectors <= WARP));
    let out = Output::new(&gpu, dtype, (batch, length, 3, heads, head_dim as usize))?;
    let block_dim = (JOINT_QKV_THREADS, 1, 1);
    let config = LaunchConfig { grid_dim: (tokens, 1, 1), block_dim, shared_mem_bytes: 0 };
    let arguments = JointQkv {
        out: out.pointer.into(),
        image: image.pointer.into(),
        text: text.map_or(In::NONE, |text| text.pointer.into()),
        norms: norms.map_or(In::NONE, |norms| norms.pointer.into()),
        image_strides: image.strides(),
        text_strides: text.map_or(Strides { batch: 0, row: 0 }, |text| text.strides()),
        image_rows: image.rows,
        text_rows,
        heads: size(OP, heads)?,
        head_dim,
        lanes: vectors.next_power_of_two().min(WARP),
        fast,
        eps: eps as f32,
    };
    // SAFETY: image and text have `rows` tokens of 3 * heads * head_dim for each batch element, norms (if not null) two
    // rows of head_dim for each of them, and out all tokens; a block does one.
    unsafe { launch(gpu.stream(), &kernel, config, &arguments)? };
    Ok(out.tensor())
}
