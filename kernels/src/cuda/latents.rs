//! The ends of a denoising step: latents to tokens, and predicted tokens back into the latents.
//!
//! What changes from step to step is read from device memory, so that a captured launch serves every step.

use super::arguments::{AddPositions, GuidedStep, Images, Patchify, launch};
use super::elementwise::{blocks, vector};
use super::operand::{Input, Output, gpu, size};
use candle_core::{DType, Result, Tensor, bail};

/// Cuts images into tokens of `patch` x `patch` pixels, in the order channel, row, column, and repeats them all
/// `copies` times, one copy after the other.
///
/// `latents`: `[N, C, H, W]` f32, contiguous. Returns `[copies * N, H/p * W/p, C * p * p]` in `dtype`.
///
/// # Errors
/// The patches do not tile the images, or a layout or type is another.
#[expect(unsafe_code, reason = "a kernel launch")]
pub fn patchify(latents: &Tensor, patch: usize, copies: usize, dtype: DType) -> Result<Tensor> {
    let of = Latents::new("patchify", latents, patch)?;
    let gpu = gpu("patchify", latents)?;
    let function = gpu.kernel("patchify", dtype)?;
    let input = Input::typed("patchify", latents, DType::F32)?;
    let from = input.contiguous()?;
    let out = Output::new(&gpu, dtype, (copies * of.count, of.length(), of.elements()))?;
    let vector = vector(dtype, &[of.elements()], &[out.pointer]);
    let threads = of.threads(vector)?;
    let arguments = Patchify {
        x: from.into(),
        out: out.pointer.into(),
        images: of.images()?,
        copies: size("patchify", copies)?,
        vector,
    };
    if let Some(config) = blocks("patchify", threads)? {
        // SAFETY: input and output have the sizes given, `vector` divides a token.
        unsafe { launch(gpu.stream(), &function, config, &arguments)? };
    }
    Ok(out.tensor())
}

/// One step of the sampler, in place: `latents += delta * v`, where v is guided, `u + g (c - u)`, if the prediction has
/// two rows for each image (all u, then all c), else the prediction itself.
///
/// - `latents`: `[N, C, H, W]` f32, contiguous
/// - `prediction`: `[N or 2N, H/p * W/p, p * p * C]` f32|bf16, contiguous; a token's order is row, column, channel
/// - `settings`: `[4]` f32: g, delta, the step's index, 0
/// - `first_bad`: `[1]` u32: lowered to the step's index if a latent is not finite any more
///
/// # Errors
/// Shapes do not fit, or a layout or type is another.
#[expect(unsafe_code, reason = "a kernel launch")]
pub fn guided_step(
    latents: &Tensor,
    prediction: &Tensor,
    patch: usize,
    settings: &Tensor,
    first_bad: &Tensor,
) -> Result<()> {
    let of = Latents::new("guided_step", latents, patch)?;
    let (count, length, elements) = (of.count, of.length(), of.elements());
    let guided = prediction.dims() == [2 * count, length, elements];
    if !guided && prediction.dims() != [count, length, elements] {
        let (dims, both) = (prediction.dims(), 2 * count);
        bail!("guided_step: prediction {dims:?}: expected [{count} or {both}, {length}, {elements}]")
    }
    if settings.dims() != [4] || first_bad.dims() != [1] {
        let (settings, first_bad) = (settings.dims(), first_bad.dims());
        bail!("guided_step: settings {settings:?}, first_bad {first_bad:?}: expected [4], [1]")
    }
    let gpu = gpu("guided_step", latents)?;
    let function = gpu.kernel("guided_step", prediction.dtype())?;
    let x = Input::typed("guided_step", latents, DType::F32)?;
    let tokens = Input::new("guided_step", prediction);
    let settings = Input::typed("guided_step", settings, DType::F32)?;
    let first_bad = Input::typed("guided_step", first_bad, DType::U32)?;
    let from = tokens.contiguous()?;
    let vector = vector(tokens.dtype, &[of.channels], &[from]);
    let threads = of.threads(vector)?;
    let arguments = GuidedStep {
        x: x.contiguous()?.into(),
        prediction: from.into(),
        settings: settings.contiguous()?.into(),
        first_bad: first_bad.contiguous()?.into(),
        images: of.images()?,
        guided: guided.into(),
        vector,
    };
    if let Some(config) = blocks("guided_step", threads)? {
        // SAFETY: the sizes are checked above, and `vector` divides the channels.
        unsafe { launch(gpu.stream(), &function, config, &arguments)? };
    }
    Ok(())
}

/// `x += positions` for every batch element, in place.
///
/// `x`: `[B, L, D]` f32|bf16; `positions`: `[L, D]` of x's type; both with last stride 1.
///
/// # Errors
/// Shapes do not fit, or a layout or type is another.
#[expect(unsafe_code, reason = "a kernel launch")]
pub fn add_positions(x: &Tensor, positions: &Tensor) -> Result<()> {
    if x.rank() != 3 || x.dims()[1..] != *positions.dims() {
        bail!("add_positions: x {:?}, positions {:?}: expected [B, L, D], [L, D]", x.dims(), positions.dims())
    }
    let gpu = gpu("add_positions", x)?;
    let function = gpu.kernel("add_positions", x.dtype())?;
    let (x_in, positions_in) =
        (Input::new("add_positions", x), Input::typed("add_positions", positions, x.dtype())?);
    let (to, from) = (x_in.rows()?, positions_in.rows()?);
    let strides = [to.batch_stride, to.row_stride, from.row_stride].map(|stride| stride as usize);
    let lengths = [to.width as usize, strides[0], strides[1], strides[2]];
    let vector = vector(x_in.dtype, &lengths, &[to.pointer, from.pointer]);
    let threads = size("add_positions", to.rows as usize * (to.width / vector) as usize)?;
    if to.batch == 0 {
        return Ok(());
    }
    let arguments = AddPositions {
        x: to.pointer.into(),
        positions: from.pointer.into(),
        x_strides: to.strides(),
        positions_stride: from.row_stride,
        batch: to.batch,
        rows: to.rows,
        width: to.width,
        vector,
    };
    if let Some(config) = blocks("add_positions", u64::from(threads))? {
        // SAFETY: shapes are equal, `vector` divides the width and all strides.
        unsafe { launch(gpu.stream(), &function, config, &arguments)? };
    }
    Ok(())
}

/// `[count, channels, height, width]` in patches of `patch` x `patch`.
struct Latents {
    op: &'static str,
    count: usize,
    channels: usize,
    height: usize,
    width: usize,
    patch: usize,
}

impl Latents {
    fn new(op: &'static str, latents: &Tensor, patch: usize) -> Result<Self> {
        match latents.dims() {
            &[count, channels, height, width]
                if patch > 0 && height.is_multiple_of(patch) && width.is_multiple_of(patch) =>
            {
                Ok(Self { op, count, channels, height, width, patch })
            }
            dims => bail!("{op}: latents {dims:?}: expected [N, C, H, W] that patches of {patch} tile"),
        }
    }

    /// Tokens of an image.
    fn length(&self) -> usize {
        self.height / self.patch * (self.width / self.patch)
    }

    /// Elements of a token.
    fn elements(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    /// One for each vector of all images, which kernels count in 32 bits.
    fn threads(&self, vector: u32) -> Result<u64> {
        let all = size(self.op, self.count * self.length() * self.elements())?;
        Ok(u64::from(all / vector))
    }

    fn images(&self) -> Result<Images> {
        Ok(Images {
            count: size(self.op, self.count)?,
            channels: size(self.op, self.channels)?,
            height: size(self.op, self.height)?,
            width: size(self.op, self.width)?,
            patch: size(self.op, self.patch)?,
        })
    }
}
