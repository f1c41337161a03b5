//! How the values of a tensor lie in its file.

use candle_core::quantized::GgmlDType;
use safetensors::Dtype;
use std::fmt;

/// The type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredType {
    /// One value after the other.
    Plain(Dtype),
    /// Blocks of values with a scale of their own, as GGUF has them.
    Blocks(GgmlDType),
    /// Values whose scales are tensors of their own, as ComfyUI's mixed precision has them.
    Scaled(ScaledType),
}

/// Values that are numbers only when scales have multiplied them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScaledType {
    /// A signed byte each, with a scale for the tensor or for each row.
    Int8,
    /// F8_E4M3 with a power of two for each 32 values of a row.
    Mxfp8,
    /// Two values of four bits a byte, with an F8_E4M3 for each 16 values of a row, and a number for the tensor.
    Nvfp4,
}

impl StoredType {
    /// What tensors may be stored as, for messages.
    pub(crate) const READABLE: &'static str =
        "F64, F32, F16, BF16, F8_E4M3, F8_E5M2, and of GGUF Q8_0, Q5_0, Q5_1, Q4_0, Q4_1 and Q2_K to Q6_K";

    /// Whether latentd reads it.
    pub(crate) fn is_readable(self) -> bool {
        match self {
            Self::Plain(dtype) => {
                use Dtype::{BF16, F8_E4M3, F8_E5M2, F16, F32, F64};
                matches!(dtype, F64 | F32 | F16 | BF16 | F8_E4M3 | F8_E5M2)
            }
            Self::Blocks(_) | Self::Scaled(_) => true,
        }
    }

    /// Values of a block; a plain value is a block of its own.
    pub(crate) fn block_values(self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Blocks(dtype) => dtype.block_size(),
            Self::Scaled(dtype) => dtype.block_values(),
        }
    }

    /// Bytes of so many values, which must be whole blocks; `None` if they cannot be counted.
    pub(crate) fn bytes(self, values: usize) -> Option<usize> {
        match self {
            Self::Plain(dtype) => {
                let bits = values.checked_mul(dtype.bitsize())?;
                bits.is_multiple_of(8).then_some(bits / 8)
            }
            Self::Blocks(dtype) => {
                let whole = values.is_multiple_of(dtype.block_size());
                whole.then(|| (values / dtype.block_size()).checked_mul(dtype.type_size()))?
            }
            Self::Scaled(ScaledType::Nvfp4) => values.is_multiple_of(2).then_some(values / 2),
            Self::Scaled(_) => Some(values),
        }
    }
}

impl ScaledType {
    /// Values with one scale; 1 where a scale is of a whole row.
    pub(crate) fn block_values(self) -> usize {
        match self {
            Self::Int8 => 1,
            Self::Mxfp8 => 32,
            Self::Nvfp4 => 16,
        }
    }
}

/// As files name it: `BF16`, `Q4_0`, `Q4_K`, `NVFP4`.
impl fmt::Display for StoredType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => write!(out, "{dtype}"),
            Self::Blocks(dtype) => match format!("{dtype:?}").strip_suffix('K') {
                Some(bits) => write!(out, "{bits}_K"),
                None => write!(out, "{dtype:?}"),
            },
            Self::Scaled(dtype) => out.write_str(match dtype {
                ScaledType::Int8 => "I8",
                ScaledType::Mxfp8 => "MXFP8",
                ScaledType::Nvfp4 => "NVFP4",
            }),
        }
    }
}
