//! Times each op on shapes of real models: `cargo bench -p latentd-kernels [-- FILTER]`.
//!
//! Prints the fastest of several runs and what it amounts to, since other work on the machine only ever
//! adds time. `ops_torch.py` beside it times the same shapes with torch.

use candle_core::{DType, Device, Result, Tensor};
use latentd_kernels::{self as ops, Activation, Conv2dSpec};
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let bench = Bench { filter };
    for dtype in [DType::F32, DType::BF16] {
        linear(&bench, dtype)?;
        attention(&bench, dtype)?;
        conv2d(&bench, dtype)?;
        rows(&bench, dtype)?;
    }
    Ok(())
}

fn linear(bench: &Bench, dtype: DType) -> Result<()> {
    let gelu = Activation::GeluTanh;
    let shapes = [
        (6144, 256, 768, Activation::None),
        (6144, 256, 1024, gelu),
        (6144, 1024, 256, Activation::None),
        (3405, 2432, 2432, Activation::None),
        (333, 2432, 7296, Activation::None),
        (77, 4096, 10240, gelu),
        (2, 2432, 14592, Activation::None),
    ];
    for (m, k, n, act) in shapes {
        let (x, w, b) = (random(&[m, k], dtype)?, random(&[n, k], dtype)?, random(&[n], dtype)?);
        bench.run(&format!("linear {m}x{k}x{n} {act:?} {dtype:?}"), Work::flops(2 * m * k * n), || {
            ops::linear(&x, &w, Some(&b), act)
        })?;
    }
    Ok(())
}

fn attention(bench: &Bench, dtype: DType) -> Result<()> {
    for (b, l, h, dh) in [(2, 3405, 4, 64), (1, 4429, 38, 64), (1, 3072, 1, 512), (1, 333, 64, 64)] {
        let qkv = random(&[b, l, 3, h, dh], dtype)?;
        bench.run(
            &format!("attention B{b} L{l} H{h} Dh{dh} {dtype:?}"),
            Work::flops(4 * b * l * l * h * dh),
            || ops::attention(&qkv),
        )?;
    }
    Ok(())
}

fn conv2d(bench: &Bench, dtype: DType) -> Result<()> {
    let shapes = [
        (64, 64, 512, 512, 3, false),
        (128, 128, 768, 1024, 3, false),
        (512, 512, 96, 128, 3, false),
        (128, 3, 768, 1024, 3, false),
        (16, 512, 96, 128, 3, false),
        (256, 128, 768, 1024, 1, false),
        (256, 256, 192, 256, 3, true),
    ];
    for (c, o, h, w, k, upsample) in shapes {
        let (x, weight, bias) =
            (random(&[1, c, h, w], dtype)?, random(&[o, c, k, k], dtype)?, random(&[o], dtype)?);
        let area = h * w * if upsample { 4 } else { 1 };
        let spec = Conv2dSpec { stride: 1, padding: k / 2, upsample };
        let name = format!("conv2d {c}->{o} {h}x{w} k{k}{} {dtype:?}", if upsample { " x2" } else { "" });
        bench.run(&name, Work::flops(2 * c * o * k * k * area), || {
            ops::conv2d(&x, &weight, Some(&bias), spec)
        })?;
    }
    Ok(())
}

/// The ops that memory bounds, counted as one read of each input and one write.
fn rows(bench: &Bench, dtype: DType) -> Result<()> {
    let size = dtype.size_in_bytes();
    let (c, h, w) = (128, 768, 1024);
    let (x, affine) = (random(&[1, c, h, w], dtype)?, random(&[c], dtype)?);
    bench.run(
        &format!("group_norm+silu {c}x{h}x{w} {dtype:?}"),
        Work::bytes(2 * c * h * w * size),
        || ops::group_norm(&x, &affine, &affine, 32, 1e-6, Activation::Silu),
    )?;
    let (b, l, d) = (2, 3405, 2432);
    let (x, y, mods) = (random(&[b, l, d], dtype)?, random(&[b, l, d], dtype)?, random(&[b, 6, d], dtype)?);
    bench.run(
        &format!("layer_norm_modulate {b}x{l}x{d} {dtype:?}"),
        Work::bytes(2 * b * l * d * size),
        || ops::layer_norm_modulate(&x, &mods, 0, 1, 1e-6),
    )?;
    bench.run(&format!("gated_add {b}x{l}x{d} {dtype:?}"), Work::bytes(3 * b * l * d * size), || {
        ops::gated_add(&x, &y, &mods, 2)
    })?;
    let weight = random(&[d], dtype)?;
    bench.run(&format!("rms_norm {b}x{l}x{d} {dtype:?}"), Work::bytes(2 * b * l * d * size), || {
        ops::rms_norm(&x, &weight, 1e-6)
    })?;
    let (image, text) = (random(&[2, 3072, 3 * 2432], dtype)?, random(&[2, 333, 3 * 2432], dtype)?);
    let norms = random(&[4, 64], dtype)?;
    bench.run(
        &format!("joint_qkv 2x(3072+333)x3x38x64 {dtype:?}"),
        Work::bytes(2 * 2 * l * 3 * d * size),
        || ops::joint_qkv(&image, Some(&text), Some(&norms), 38, 1e-6),
    )
}

/// Numbers of deviation 1, uniform because that is cheap: there are gigabytes of inputs.
fn random(shape: &[usize], dtype: DType) -> Result<Tensor> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / 16_777_216.0 - 0.5) * 12f32.sqrt()
    };
    let values: Vec<f32> = std::iter::repeat_with(next).take(shape.iter().product()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
}

struct Work {
    amount: f64,
    unit: &'static str,
}

impl Work {
    fn flops(n: usize) -> Self {
        Self { amount: n as f64 * 1e-9, unit: "GFLOP/s" }
    }

    fn bytes(n: usize) -> Self {
        Self { amount: n as f64 * 1e-9, unit: "GB/s" }
    }
}

struct Bench {
    filter: String,
}

impl Bench {
    /// Runs `f` for about a second (at least thrice) and prints the fastest run.
    fn run(&self, name: &str, work: Work, f: impl Fn() -> Result<Tensor>) -> Result<()> {
        if !name.contains(&self.filter) {
            return Ok(());
        }
        let (start, mut best, mut runs) = (Instant::now(), Duration::MAX, 0);
        while runs < 3 || start.elapsed() < Duration::from_secs(1) {
            let begin = Instant::now();
            std::hint::black_box(f()?);
            best = best.min(begin.elapsed());
            runs += 1;
        }
        let seconds = best.as_secs_f64();
        println!("{name:48} {:9.3} ms {:8.1} {}", seconds * 1e3, work.amount / seconds, work.unit);
        Ok(())
    }
}
