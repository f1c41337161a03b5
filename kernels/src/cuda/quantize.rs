//! Launches `cuda/quantize.cu`: rows as e4m3 with a scale each.

use super::arguments::{Normed, Out, QuantizeRowwise, launch};
use super::device::Gpu;
use super::operand::{Input, Output, gpu};
use super::rows::RowLaunch;
use candle_core::{DType, Result, Tensor, bail};

/// A tensor as e4m3 with a scale for each row: an element is `values * scales`.
///
/// A row's scale is its largest magnitude / 448, or 1 for a row of zeros. What was NaN or infinite comes back NaN or
/// infinite.
#[derive(Debug, Clone)]
pub struct Rowwise {
    /// `[.., D]` u8, each an e4m3.
    pub values: Tensor,
    /// `[..]` f32.
    pub scales: Tensor,
}

/// A [`Rowwise`] that a kernel fills.
pub(super) struct RowwiseOutput {
    pub(super) values: Output,
    pub(super) scales: Output,
}

impl RowwiseOutput {
    /// For a tensor of these dimensions, at least one.
    pub(super) fn new(gpu: &Gpu, dims: &[usize]) -> Result<Self> {
        let Some((_, leading)) = dims.split_last() else { bail!("expected rows, got a single number") };
        Ok(Self {
            values: Output::new(gpu, DType::U8, dims)?,
            scales: Output::new(gpu, DType::F32, leading)?,
        })
    }

    pub(super) fn rowwise(self) -> Rowwise {
        Rowwise { values: self.values.tensor(), scales: self.scales.tensor() }
    }
}

/// What a norm writes: rows in the storage's type, or as e4m3. The kernels differ in that alone.
pub(super) trait NormOutput: Sized {
    type Tensors;
    /// Behind the op in the kernel's name.
    const SUFFIX: &'static str;

    /// For the norm of `x`.
    fn of(gpu: &Gpu, x: &Tensor) -> Result<Self>;
    /// As the kernel takes it.
    fn to(&self) -> Normed;
    fn tensors(self) -> Self::Tensors;
}

impl NormOutput for Output {
    type Tensors = Tensor;
    const SUFFIX: &'static str = "";

    fn of(gpu: &Gpu, x: &Tensor) -> Result<Self> {
        Self::new(gpu, x.dtype(), x.shape())
    }

    fn to(&self) -> Normed {
        Normed { out: self.pointer.into(), values: Out::NONE, scales: Out::NONE }
    }

    fn tensors(self) -> Tensor {
        self.tensor()
    }
}

impl NormOutput for RowwiseOutput {
    type Tensors = Rowwise;
    const SUFFIX: &'static str = "_rowwise";

    fn of(gpu: &Gpu, x: &Tensor) -> Result<Self> {
        Self::new(gpu, x.dims())
    }

    fn to(&self) -> Normed {
        Normed { out: Out::NONE, values: self.values.pointer.into(), scales: self.scales.pointer.into() }
    }

    fn tensors(self) -> Rowwise {
        self.rowwise()
    }
}

/// The rows of `x` as e4m3, after GELU (its tanh form) if `gelu` says so.
///
/// - `x`: `[.., D]` f32|bf16 on a GPU, contiguous, or of rank 2 or 3 with last stride 1
///
/// # Errors
/// Another type, layout or device.
#[expect(unsafe_code, reason = "a kernel launch")]
pub fn quantize_rowwise(x: &Tensor, gelu: bool) -> Result<Rowwise> {
    const OP: &str = "quantize_rowwise";
    let (gpu, dtype) = (gpu(OP, x)?, x.dtype());
    let kernel = gpu.kernel(if gelu { "quantize_rowwise_gelu" } else { "quantize_rowwise" }, dtype)?;
    let input = Input::new(OP, x);
    let rows = input.rows()?;
    let RowLaunch { sizes, config } = RowLaunch::new(OP, dtype, &rows, &[])?;
    let out = RowwiseOutput::new(&gpu, x.dims())?;
    let arguments = QuantizeRowwise {
        values: out.values.pointer.into(),
        scales: out.scales.pointer.into(),
        x: rows.pointer.into(),
        x_strides: rows.strides(),
        sizes,
    };
    // SAFETY: x has `total` rows, out a byte for each of their elements and a scale for each row.
    unsafe { launch(gpu.stream(), &kernel, config, &arguments)? };
    Ok(out.rowwise())
}
