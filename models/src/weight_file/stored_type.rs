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
}

impl StoredType {
    /// What tensors may be stored as, for messages.
    pub(crate) const READABLE: &'static str =
        "F64, F32, F16, BF16, F8_E4M3, and of GGUF Q8_0, Q5_0, Q5_1, Q4_0, Q4_1 and Q2_K to Q6_K";

    /// Whether latentd reads it.
    pub(crate) fn is_readable(self) -> bool {
        match self {
            Self::Plain(dtype) => {
                matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E4M3)
            }
            Self::Blocks(_) => true,
        }
    }

    /// Values of a block; a plain value is a block of its own.
    pub(crate) fn block_values(self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Blocks(dtype) => dtype.block_size(),
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
        }
    }
}

/// As files name it: `BF16`, `Q4_0`, `Q4_K`.
impl fmt::Display for StoredType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => write!(out, "{dtype}"),
            Self::Blocks(dtype) => match format!("{dtype:?}").strip_suffix('K') {
                Some(bits) => write!(out, "{bits}_K"),
                None => write!(out, "{dtype:?}"),
            },
        }
    }
}
