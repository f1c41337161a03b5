//! f32 values to what a file stores.

use crate::weight_file::StoredType;
use crate::weights::F8_E4M3;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

/// Values that a thread converts at once: whole blocks of every type.
const CHUNK: usize = 1 << 16;

/// The bytes of a tensor, f32 and contiguous.
pub(super) fn encode(tensor: &Tensor, dtype: StoredType) -> Result<Vec<u8>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let chunks = values.par_chunks(CHUNK);
    let encoded = match dtype {
        StoredType::Plain(Dtype::F32) => return Ok(bytemuck::cast_slice(&values).to_vec()),
        StoredType::Plain(Dtype::F16) => {
            chunks.map(|chunk| each(chunk, |x| f16::from_f32(x).to_le_bytes())).collect()
        }
        StoredType::Plain(Dtype::BF16) => {
            chunks.map(|chunk| each(chunk, |x| bf16::from_f32(x).to_le_bytes())).collect()
        }
        StoredType::Plain(Dtype::F8_E4M3) => chunks.map(|chunk| each(chunk, |x| [fp8(x)])).collect(),
        StoredType::Blocks(dtype) => chunks.map(|chunk| blocks(chunk, dtype)).collect::<Result<Vec<_>>>()?,
        other => bail!("nothing is written as {other}"),
    };
    Ok(encoded.concat())
}

fn each<const N: usize>(values: &[f32], bytes: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}

/// As candle quantizes them, which does what ggml does without an importance matrix.
fn blocks(values: &[f32], dtype: GgmlDType) -> Result<Vec<u8>> {
    let values = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
    Ok(QTensor::quantize(&values, dtype)?.data()?.into_owned())
}

/// The nearest value of e4m3, of two equally near the one with an even last bit; what is larger than the largest, 448, becomes
/// that.
fn fp8(value: f32) -> u8 {
    /// NaN, after the largest value.
    const NAN: usize = 0x7f;
    if value.is_nan() {
        return NAN as u8;
    }
    let (sizes, size) = (&F8_E4M3[..NAN], value.abs());
    let above = sizes.partition_point(|known| *known < size).min(NAN - 1);
    let below = above.saturating_sub(1);
    let (down, up) = (size - sizes[below], sizes[above] - size);
    let nearest = if down < up || down == up && below.is_multiple_of(2) { below } else { above };
    nearest as u8 | if value.is_sign_negative() { 0x80 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All values stand for themselves, those between two for the nearer one, and halves for the even one, as torch has it.
    #[test]
    fn fp8_is_the_nearest_value() {
        for byte in (0..=254u8).filter(|byte| byte & 0x7f != 0x7f) {
            assert_eq!(fp8(F8_E4M3[usize::from(byte)]), byte, "{byte:#x}");
        }
        for below in 0..0x7eu8 {
            let (low, high) = (F8_E4M3[usize::from(below)], F8_E4M3[usize::from(below) + 1]);
            let half = (low + high) / 2.0;
            assert_eq!(fp8(half), below + below % 2, "between {low} and {high}");
            assert_eq!(fp8(low + (high - low) * 0.4), below);
            assert_eq!(fp8(-(low + (high - low) * 0.6)), (below + 1) | 0x80);
        }
        assert_eq!((fp8(1e9), fp8(f32::NEG_INFINITY), fp8(f32::NAN)), (0x7e, 0xfe, 0x7f));
    }
}
