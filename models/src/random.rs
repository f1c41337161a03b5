//! Random tensors, made where they are used: weights and inputs of a model without a download.

use candle_core::{DType, Device, Result, Tensor};

/// Deviation of biases and of the position table.
const SMALL: f64 = 0.02;

/// Makes a device with a generator of its own repeat itself.
pub(crate) fn seed(device: &Device, seed: u64) -> Result<()> {
    if device.is_cpu() {
        return Ok(());
    }
    let set = || device.set_seed(seed);
    // candle makes another generator and destroys the one before.
    #[cfg(feature = "cuda")]
    {
        crate::gpu::between_captures(set)
    }
    #[cfg(not(feature = "cuda"))]
    set()
}

/// A weight scaled like a trained one: its product with a unit input has unit deviation, norms stay near 1.
pub(crate) fn weight(name: &str, shape: &[usize], device: &Device, dtype: DType) -> Result<Tensor> {
    let (mean, deviation) = match shape {
        [_] if name.ends_with("weight") => (1.0, SMALL),
        [_] | [_, _, _] => (0.0, SMALL),
        _ => {
            let fan_in: usize = shape.iter().skip(1).product();
            (0.0, 1.0 / (fan_in as f64).sqrt())
        }
    };
    normal(name, shape, mean, deviation, device)?.to_dtype(dtype)
}

/// Normal values, f32. On the CPU they depend on `name` alone; a GPU goes on from where its generator is.
pub(crate) fn normal(
    name: &str,
    shape: &[usize],
    mean: f64,
    deviation: f64,
    device: &Device,
) -> Result<Tensor> {
    let (mean, deviation) = (mean as f32, deviation as f32);
    if !device.is_cpu() {
        return Tensor::randn(mean, deviation, shape, device);
    }
    let key = key(name);
    let values =
        (0..shape.iter().product::<usize>() as u64).map(|at| mean + deviation * near_normal(key, at));
    Tensor::from_vec(values.collect(), shape, device)
}

/// FNV-1a.
fn key(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The sum of four 16-bit uniforms of a counter's SplitMix64, to mean 0 and deviation 1: no logarithm, so that
/// billions of weights take seconds.
fn near_normal(key: u64, at: u64) -> f32 {
    let mut bits = key.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    (sum as f32 - 2.0 * 65535.0) * (3f32.sqrt() / 65536.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_has_the_deviation_of_a_trained_one_and_no_zeros() {
        let weight = weight("a.weight", &[300, 400], &Device::Cpu, DType::F32).expect("a tensor");
        let values = weight.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("values");
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let deviation = (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt();
        // Four and more standard errors of 120,000 values.
        assert!(mean.abs() < 0.0006 && (deviation - 0.05).abs() < 0.0005, "{mean} {deviation}");
        assert!(values.iter().filter(|v| **v == 0.0).count() < 10);
    }

    #[test]
    fn a_name_has_one_tensor_and_two_names_have_two() {
        let make = |name| {
            normal(name, &[64], 0.0, 1.0, &Device::Cpu).and_then(|t| t.to_vec1::<f32>()).expect("values")
        };
        assert_eq!(make("a"), make("a"));
        assert_ne!(make("a"), make("b"));
    }

    #[test]
    fn norms_stay_near_one() {
        let norm = weight("attn.norm_q.weight", &[64], &Device::Cpu, DType::F32).expect("a tensor");
        let values = norm.to_vec1::<f32>().expect("values");
        assert!(values.iter().all(|v| (v - 1.0).abs() < 0.08), "{values:?}");
    }
}
