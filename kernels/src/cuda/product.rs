//! A matrix product as plain data: its shape, types and epilogue, and its device addresses.

use candle_core::DType;
use std::fmt;

/// What a product applies to its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Epilogue {
    None,
    Bias,
    /// GELU in its tanh form.
    BiasGelu,
}

/// A product's shape and types; everything an algorithm depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Of x and w: f32, bf16, or e4m3 as u8 (then y is bf16).
    pub(crate) dtype: DType,
    /// Products that share w, with `x_batch` and `y_batch` elements from one to the next.
    pub(crate) batch: u32,
    pub(crate) rows: u32,
    pub(crate) inputs: u32,
    pub(crate) outputs: u32,
    pub(crate) x_stride: i64,
    pub(crate) x_batch: i64,
    /// Bytes, a power of two up to 256.
    pub(crate) x_alignment: u32,
    pub(crate) w_alignment: u32,
    pub(crate) epilogue: Epilogue,
}

/// Device addresses of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) x: u64,
    /// `[outputs, inputs]`, contiguous.
    pub(crate) w: u64,
    /// `[outputs]`; read when the epilogue says so.
    pub(crate) bias: u64,
    /// `[batch, rows, outputs]`, contiguous.
    pub(crate) y: u64,
    /// Scales of e4m3: one f32 for each row of x and one for each output.
    pub(crate) scales: Option<(u64, u64)>,
}

/// As files of chosen algorithms write it.
impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = if self.dtype == DType::U8 { "e4m3" } else { self.dtype.as_str() };
        let epilogue = match self.epilogue {
            Epilogue::None => "plain",
            Epilogue::Bias => "bias",
            Epilogue::BiasGelu => "bias-gelu",
        };
        let Self { batch, rows, inputs, outputs, x_stride, x_batch, x_alignment, w_alignment, .. } = self;
        write!(out, "{dtype} {epilogue} {batch} x {rows} x {inputs} x {outputs}")?;
        write!(out, ", strides {x_stride} {x_batch}, aligned {x_alignment} {w_alignment}")
    }
}
