//! Helpers of the ops' tests: reproducible inputs, f64 references and comparisons.

use candle_core::{DType, Device, Result, Tensor};

/// A standard normal tensor (Box-Muller over a counter), the same for a seed on every machine.
pub(crate) fn normal(shape: &[usize], seed: u64) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n as u64).map(|i| normal_at(seed.wrapping_mul(1 << 40) + i)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a vector of the shape's size")
}

fn normal_at(i: u64) -> f32 {
    let uniform = |i: u64| {
        // splitmix64
        let mut z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let (u, v) = (uniform(2 * i) + 1e-12, uniform(2 * i + 1));
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}

/// All elements as f64, in row-major order.
pub(crate) fn f64s(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// The largest absolute difference; infinite where one is NaN and the other is not.
pub(crate) fn max_error(ours: &[f64], exact: &[f64]) -> f64 {
    assert_eq!(ours.len(), exact.len());
    let error = |(a, b): (&f64, &f64)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) if a == b => 0.0,
        (false, false) => (a - b).abs(),
        _ => f64::INFINITY,
    };
    ours.iter().zip(exact).map(error).fold(0.0, f64::max)
}

/// The largest magnitude.
pub(crate) fn max_abs(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, v| v.abs().max(m))
}

/// Runs `f` on a pool of one thread and on one of three; the bits must agree.
pub(crate) fn same_on_any_pool(f: impl Fn() -> Result<Tensor> + Sync) -> Result<()> {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(|| f64s(&f()?))
    };
    let (one, three) = (on(1)?, on(3)?);
    assert!(one.iter().zip(&three).all(|(a, b)| a.to_bits() == b.to_bits()), "bits depend on the threads");
    Ok(())
}
