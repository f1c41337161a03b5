//! Maps over whole tensors: activations in place, sums, and nearest-neighbour upsampling.

use super::arguments::{
    Activate, Add, GELU_ERF, GELU_TANH, MAP_THREADS, QUICK_GELU, RELU, SILU, Upsample, WORD_BYTES, launch,
};
use super::operand::{Input, Output, gpu, size};
use crate::options::Activation;
use candle_core::{DType, Layout, Result, Tensor, bail};
use cudarc::driver::LaunchConfig;

/// Applies an activation in place.
///
/// - `x`: `[..]` f32|bf16, any order of dimensions without gaps
///
/// # Errors
/// The tensor has gaps or another type.
#[expect(unsafe_code, reason = "a kernel launch")]
pub fn activate(x: &Tensor, act: Activation) -> Result<()> {
    let activation = match act {
        Activation::None => return Ok(()),
        Activation::GeluTanh => GELU_TANH,
        Activation::GeluErf => GELU_ERF,
        Activation::QuickGelu => QUICK_GELU,
        Activation::Silu => SILU,
        Activation::Relu => RELU,
    };
    let gpu = gpu("activate", x)?;
    let input = Input::new("activate", x);
    if order(input.layout).is_none() {
        bail!("activate: x {:?} strides {:?} has gaps", x.dims(), x.stride())
    }
    let arguments = Activate { x: input.pointer()?.into(), count: x.elem_count() as u64, activation };
    let function = gpu.kernel("activate", input.dtype)?;
    if let Some(config) = blocks("activate", arguments.count.div_ceil(widest(input.dtype)))? {
        // SAFETY: the tensor's `count` elements follow each other without gaps.
        unsafe { launch(gpu.stream(), &function, config, &arguments)? };
    }
    Ok(())
}

/// `a + b`, laid out as both are.
///
/// - `a`, `b`: `[..]` f32|bf16 of one shape and one order of dimensions without gaps (channels-last, for example)
///
/// # Errors
/// Shapes, layouts or types differ.
#[expect(unsafe_code, reason = "a kernel launch")]
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let gpu = gpu("add", a)?;
    let (a_in, b_in) = (Input::new("add", a), Input::typed("add", b, a.dtype())?);
    let order = match (order(a_in.layout), order(b_in.layout)) {
        (Some(order), Some(other)) if a.dims() == b.dims() && order == other => order,
        _ => bail!(
            "add: {:?} strides {:?} and {:?} strides {:?}: expected one shape and layout, without gaps",
            a.dims(),
            a.stride(),
            b.dims(),
            b.stride()
        ),
    };
    let sorted: Vec<usize> = order.iter().map(|&axis| a.dims()[axis]).collect();
    let out = Output::new(&gpu, a_in.dtype, sorted)?;
    let count = a.elem_count() as u64;
    let (a_at, b_at) = (a_in.pointer()?.into(), b_in.pointer()?.into());
    let arguments = Add { a: a_at, b: b_at, out: out.pointer.into(), count };
    let function = gpu.kernel("add", a_in.dtype)?;
    if let Some(config) = blocks("add", count.div_ceil(widest(a_in.dtype)))? {
        // SAFETY: all three have `count` elements without gaps.
        unsafe { launch(gpu.stream(), &function, config, &arguments)? };
    }
    let mut back = vec![0; order.len()];
    for (position, &axis) in order.iter().enumerate() {
        back[axis] = position;
    }
    out.tensor().permute(back)
}

/// Repeats every pixel 2x2: `[B, H, W, C]` f32|bf16, contiguous, to `[B, 2H, 2W, C]`.
///
/// # Errors
/// The shape, layout or type is another.
#[expect(unsafe_code, reason = "a kernel launch")]
pub fn upsample_nearest2x(x: &Tensor) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    let gpu = gpu("upsample", x)?;
    let input = Input::new("upsample", x);
    let from = input.contiguous()?;
    let out = Output::new(&gpu, input.dtype, (batch, 2 * height, 2 * width, channels))?;
    let function = gpu.kernel("upsample", input.dtype)?;
    let vector = vector(input.dtype, &[channels], &[from, out.pointer]);
    let along = size("upsample", width * channels)? / vector;
    let arguments = Upsample {
        x: from.into(),
        out: out.pointer.into(),
        rows: size("upsample", batch * height)?,
        width: size("upsample", width)?,
        channels: size("upsample", channels)?,
        vector,
    };
    if let Some(mut config) = blocks("upsample", u64::from(along))?
        && arguments.rows > 0
    {
        // The grid's second side ends at 65535; a block then takes several rows.
        config.grid_dim.1 = arguments.rows.min(65535);
        // SAFETY: the output is four times the input, and `vector` divides the channels and keeps both addresses
        // aligned.
        unsafe { launch(gpu.stream(), &function, config, &arguments)? };
    }
    Ok(out.tensor())
}

/// Elements of 16 bytes.
pub(super) fn widest(dtype: DType) -> u64 {
    u64::from(WORD_BYTES) / dtype.size_in_bytes() as u64
}

/// Elements that a kernel may move as one word: 16 bytes of them, if that divides all `lengths` (sizes and strides in
/// elements) and the addresses are aligned to it, else 1.
pub(super) fn vector(dtype: DType, lengths: &[usize], pointers: &[u64]) -> u32 {
    let n = widest(dtype);
    let divides = lengths.iter().all(|&length| (length as u64).is_multiple_of(n));
    if divides && pointers.iter().all(|pointer| pointer.is_multiple_of(u64::from(WORD_BYTES))) {
        n as u32
    } else {
        1
    }
}

/// So many threads in blocks of [`MAP_THREADS`], if any.
pub(super) fn blocks(op: &str, threads: u64) -> Result<Option<LaunchConfig>> {
    let blocks = threads.div_ceil(u64::from(MAP_THREADS));
    if blocks > i32::MAX as u64 {
        bail!("{op}: {threads} threads are more than a grid holds")
    }
    let (grid_dim, block_dim) = ((blocks as u32, 1, 1), (MAP_THREADS, 1, 1));
    let config = LaunchConfig { grid_dim, block_dim, shared_mem_bytes: 0 };
    Ok((blocks > 0).then_some(config))
}

/// The dimensions from the slowest to the fastest, if their elements fill memory without gaps.
fn order(layout: &Layout) -> Option<Vec<usize>> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let mut axes: Vec<usize> = (0..dims.len()).collect();
    if layout.shape().elem_count() == 0 {
        return Some(axes);
    }
    // A dimension of one element may have any stride; its own place is as good as another.
    axes.sort_by_key(|&axis| std::cmp::Reverse(if dims[axis] == 1 { usize::MAX } else { strides[axis] }));
    let mut expected = 1;
    for &axis in axes.iter().rev() {
        if dims[axis] != 1 && strides[axis] != expected {
            return None;
        }
        expected *= dims[axis];
    }
    Some(axes)
}
