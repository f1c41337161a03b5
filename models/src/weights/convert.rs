//! Stored numbers to f32 or bf16.

use crate::weight_file::ScaledType;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::{Device, Result, Tensor};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use safetensors::Dtype;
use std::sync::LazyLock;

/// What a tensor is read as. Values begin as zeros that cost no memory until they are written.
pub(super) trait Element: bytemuck::Pod + Send + Sync {
    /// The dtype that needs no conversion.
    const STORED: Dtype;

    /// As many values as fit the bytes, which are aligned to four.
    fn convert(from: Dtype, bytes: &[u8], into: &mut [Self]);

    /// On the CPU without a copy.
    fn tensor(values: Vec<Self>, shape: &[usize], device: &Device) -> Result<Tensor>;
}

impl Element for f32 {
    const STORED: Dtype = Dtype::F32;

    fn convert(from: Dtype, bytes: &[u8], into: &mut [Self]) {
        match from {
            Dtype::F64 => write(into, doubles(bytes).map(|value| value as f32)),
            Dtype::F16 => halves(bytes).reinterpret_cast::<f16>().convert_to_f32_slice(into),
            Dtype::BF16 => {
                write(into, halves(bytes).iter().map(|bits| f32::from_bits(u32::from(*bits) << 16)))
            }
            Dtype::F8_E4M3 => {
                let values = &*F8_E4M3;
                write(into, bytes.iter().map(|byte| values[usize::from(*byte)]));
            }
            Dtype::F8_E5M2 => write(into, bytes.iter().map(|byte| e5m2(*byte))),
            _ => into.copy_from_slice(bytemuck::cast_slice(bytes)),
        }
    }

    fn tensor(values: Vec<Self>, shape: &[usize], device: &Device) -> Result<Tensor> {
        Tensor::from_vec(values, shape, device)
    }
}

/// The bits of a bf16.
impl Element for u16 {
    const STORED: Dtype = Dtype::BF16;

    fn convert(from: Dtype, bytes: &[u8], into: &mut [Self]) {
        let bits = |value: f32| bf16::from_f32(value).to_bits();
        match from {
            Dtype::F64 => write(into, doubles(bytes).map(|value| bits(value as f32))),
            Dtype::F32 => write(into, bytemuck::cast_slice(bytes).iter().map(|value| bits(*value))),
            Dtype::F16 => write(into, halves(bytes).iter().map(|half| bits(f16::from_bits(*half).to_f32()))),
            Dtype::F8_E4M3 => {
                let values = &*F8_E4M3;
                write(into, bytes.iter().map(|byte| bits(values[usize::from(*byte)])));
            }
            Dtype::F8_E5M2 => write(into, bytes.iter().map(|byte| bits(e5m2(*byte)))),
            _ => into.copy_from_slice(halves(bytes)),
        }
    }

    fn tensor(values: Vec<Self>, shape: &[usize], device: &Device) -> Result<Tensor> {
        Tensor::from_vec(values.reinterpret_into::<bf16>(), shape, device)
    }
}

/// The bytes are aligned to four only.
fn doubles(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes))
}

/// The values of whole blocks, which are aligned to two, as candle computes them.
pub(super) fn dequantize<T: Element>(dtype: GgmlDType, bytes: &[u8], into: &mut [T]) -> Result<()> {
    let blocks = qtensor_from_ggml(dtype, bytes, vec![into.len()], &Device::Cpu)?;
    let values = blocks.dequantize(&Device::Cpu)?.to_vec1::<f32>()?;
    T::convert(Dtype::F32, bytemuck::cast_slice(&values), into);
    Ok(())
}

/// The values that scales are still to multiply.
pub(super) fn unscaled<T: Element>(dtype: ScaledType, bytes: &[u8], into: &mut [T]) {
    let mut values = vec![0f32; into.len()];
    match dtype {
        ScaledType::Int8 => write(&mut values, bytes.iter().map(|byte| f32::from(*byte as i8))),
        ScaledType::Mxfp8 => f32::convert(Dtype::F8_E4M3, bytes, &mut values),
        // The first value of a pair is in the upper half (comfy_kitchen 0.2.40, float_utils.py:263-273).
        ScaledType::Nvfp4 => {
            write(&mut values, bytes.iter().flat_map(|byte| [e2m1(byte >> 4), e2m1(byte & 0xf)]))
        }
    }
    T::convert(Dtype::F32, bytemuck::cast_slice(&values), into);
}

/// Sign, two bits of exponent, one of mantissa.
fn e2m1(bits: u8) -> f32 {
    const SIZES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let size = SIZES[usize::from(bits & 7)];
    if bits < 8 { size } else { -size }
}

/// Sign, five bits of exponent, two of mantissa: the upper half of an f16.
fn e5m2(byte: u8) -> f32 {
    f16::from_bits(u16::from(byte) << 8).to_f32()
}

fn halves(bytes: &[u8]) -> &[u16] {
    bytemuck::cast_slice(bytes)
}

fn write<T>(into: &mut [T], values: impl Iterator<Item = T>) {
    for (place, value) in into.iter_mut().zip(values) {
        *place = value;
    }
}

/// The value of each byte: sign, four bits of exponent with bias 7, three of mantissa, no infinities.
pub(crate) static F8_E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let (exponent, mantissa) = ((byte >> 3 & 0xf) as i32, (byte & 7) as f32);
        let size = match (exponent, byte & 7) {
            (0xf, 7) => f32::NAN,
            (0, _) => mantissa * 2f32.powi(-9),
            _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
        };
        if byte < 0x80 { size } else { -size }
    })
});
