//! The GPU's ops over rows against the formulas in f64 and against the CPU's ops. Needs a GPU, and fails without one.
#![cfg(feature = "cuda")]

mod adaptive;
mod e4m3;
mod formulas;
mod joint_qkv;
mod norms;
mod properties;
#[expect(dead_code, reason = "the ops' own tests use the rest")]
#[path = "../../src/testing.rs"]
mod testing;

use candle_core::{DType, Device, Result, Tensor};
use formulas::{EPS, plain_add, plain_modulate, plain_norm, plain_qkv, plain_rms};
use latentd_kernels as ours;
use std::sync::OnceLock;

const TYPES: [DType; 2] = [DType::F32, DType::BF16];

fn gpu() -> &'static Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(|| ours::cuda::open(0, None).expect("these tests need a GPU"))
}

/// Standard normal numbers of a type, on the CPU.
fn normal(dims: &[usize], seed: u64, dtype: DType) -> Tensor {
    testing::normal(dims, seed).to_dtype(dtype).expect("a type that is converted to")
}

/// The same view of the same numbers on the GPU, with a copy of the whole storage.
fn view(whole: &Tensor, cut: impl Fn(&Tensor) -> Result<Tensor>) -> Result<(Tensor, Tensor)> {
    Ok((cut(whole)?, cut(&whole.to_device(gpu())?)?))
}

fn up(x: &Tensor) -> Result<Tensor> {
    x.to_device(gpu())
}

fn wide(x: &Tensor) -> Result<Tensor> {
    x.to_device(&Device::Cpu)?.contiguous()?.to_dtype(DType::F64)
}

fn f64s(x: &Tensor) -> Result<Vec<f64>> {
    wide(x)?.flatten_all()?.to_vec1()
}

fn bits(x: &Tensor) -> Result<Vec<u64>> {
    Ok(f64s(x)?.into_iter().map(f64::to_bits).collect())
}

/// The largest difference; infinite where one is NaN and the other is not.
fn error(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    Ok(testing::max_error(&f64s(a)?, &f64s(b)?))
}

fn largest(x: &Tensor) -> Result<f64> {
    Ok(testing::max_abs(&f64s(x)?))
}

/// One formula four times: on the GPU, by the CPU's op, in plain candle in the storage type, and in f64.
struct Results {
    gpu: Tensor,
    cpu: Tensor,
    plain: Tensor,
    exact: Tensor,
}

impl Results {
    /// f32: `bound` of the largest result. bf16: twice plain candle's error and half a step (1/256) of the largest. The
    /// CPU's op keeps the same bounds, so the two are within twice of one another.
    fn judge(&self, what: &str, bound: f64) -> Result<()> {
        let (ours, plain) = (error(&self.gpu, &self.exact)?, error(&self.plain, &self.exact)?);
        let (max, cpu) = (largest(&self.exact)?, error(&self.gpu, &self.cpu)?);
        let allowed = match self.gpu.dtype() {
            DType::F32 => bound * max,
            _ => 2.0 * plain + max / 256.0,
        };
        assert!(ours <= allowed, "{what}: off by {ours:e}, allowed {allowed:e}, largest {max:e}");
        assert!(cpu <= 2.0 * allowed, "{what}: off the CPU's op by {cpu:e}, allowed {:e}", 2.0 * allowed);
        Ok(())
    }
}

/// (B, L, D): widths of the models; of whole 16-byte words or not; longer than registers hold (bf16, f32).
const ROWS: [(usize, usize, usize); 9] = [
    (2, 37, 2432),
    (2, 5, 1536),
    (3, 11, 64),
    (2, 7, 96),
    (2, 9, 50),
    (2, 3, 1),
    (1, 2, 9728),
    (1, 1, 20488),
    (2, 2, 2561),
];

/// A row's f32 statistics are off by some steps, and x - mean by mean / deviation as many.
const NORM_BOUND: f64 = 4e-6;

/// Inputs of an adaptive norm and its residual, on the CPU and the GPU: x is a part of longer sequences, y of others,
/// and the modulations of more of them.
struct Block {
    cpu: [Tensor; 3],
    gpu: [Tensor; 3],
}

impl Block {
    fn new((b, l, d): (usize, usize, usize), dtype: DType, amplitude: f64, offset: f64) -> Result<Self> {
        let x = normal(&[b, l + 2, d], 1, DType::F64).affine(amplitude, offset)?.to_dtype(dtype)?;
        let (x, x_gpu) = view(&x, |x| x.narrow(1, 1, l))?;
        let (y, y_gpu) = view(&normal(&[b, l + 3, d], 2, dtype), |y| y.narrow(1, 3, l))?;
        let (mods, mods_gpu) = view(&normal(&[b, 11, d], 3, dtype), |m| m.narrow(1, 4, 6))?;
        Ok(Self { cpu: [x, y, mods], gpu: [x_gpu, y_gpu, mods_gpu] })
    }

    fn wide(&self) -> Result<[Tensor; 3]> {
        let [x, y, mods] = &self.cpu;
        Ok([wide(x)?, wide(y)?, wide(mods)?])
    }
}
