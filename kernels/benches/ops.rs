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
        bench.run(
            &format!("linear {m}x{k}x{n} {act:?} {dtype:?}"),
            Work::flops(2 * m * k * n),
            || Ok([random(&[m, k], dtype)?, random(&[n, k], dtype)?, random(&[n], dtype)?]),
            |[x, w, b]| ops::linear(x, w, Some(b), act),
        )?;
    }
    Ok(())
}

fn attention(bench: &Bench, dtype: DType) -> Result<()> {
    for (b, l, h, dh) in [(2, 3405, 4, 64), (1, 4429, 38, 64), (1, 3072, 1, 512), (1, 333, 64, 64)] {
        bench.run(
            &format!("attention B{b} L{l} H{h} Dh{dh} {dtype:?}"),
            Work::flops(4 * b * l * l * h * dh),
            || random(&[b, l, 3, h, dh], dtype),
            ops::attention,
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
        let area = h * w * if upsample { 4 } else { 1 };
        let spec = Conv2dSpec { stride: 1, padding: k / 2, upsample };
        bench.run(
            &format!("conv2d {c}->{o} {h}x{w} k{k}{} {dtype:?}", if upsample { " x2" } else { "" }),
            Work::flops(2 * c * o * k * k * area),
            || Ok([random(&[1, c, h, w], dtype)?, random(&[o, c, k, k], dtype)?, random(&[o], dtype)?]),
            |[x, w, b]| ops::conv2d(x, w, Some(b), spec),
        )?;
    }
    Ok(())
}

/// The ops that memory bounds, counted as one read of each input and one write.
fn rows(bench: &Bench, dtype: DType) -> Result<()> {
    let size = dtype.size_in_bytes();
    let (c, h, w) = (128, 768, 1024);
    bench.run(
        &format!("group_norm+silu {c}x{h}x{w} {dtype:?}"),
        Work::bytes(2 * c * h * w * size),
        || Ok([random(&[1, c, h, w], dtype)?, random(&[c], dtype)?]),
        |[x, affine]| ops::group_norm(x, affine, affine, 32, 1e-6, Activation::Silu),
    )?;
    let (b, l, d) = (2, 3405, 2432);
    let tokens = || random(&[b, l, d], dtype);
    bench.run(
        &format!("layer_norm_modulate {b}x{l}x{d} {dtype:?}"),
        Work::bytes(2 * b * l * d * size),
        || Ok([tokens()?, random(&[b, 6, d], dtype)?]),
        |[x, mods]| ops::layer_norm_modulate(x, mods, 0, 1, 1e-6),
    )?;
    bench.run(
        &format!("gated_add {b}x{l}x{d} {dtype:?}"),
        Work::bytes(3 * b * l * d * size),
        || Ok([tokens()?, tokens()?, random(&[b, 6, d], dtype)?]),
        |[x, y, mods]| ops::gated_add(x, y, mods, 2),
    )?;
    bench.run(
        &format!("rms_norm {b}x{l}x{d} {dtype:?}"),
        Work::bytes(2 * b * l * d * size),
        || Ok([tokens()?, random(&[d], dtype)?]),
        |[x, w]| ops::rms_norm(x, w, 1e-6),
    )?;
    let stream = |seq: usize| random(&[b, seq, 3 * d], dtype);
    bench.run(
        &format!("joint_qkv 2x(3072+333)x3x38x64 {dtype:?}"),
        Work::bytes(2 * b * l * 3 * d * size),
        || Ok([stream(l - 333)?, stream(333)?, random(&[4, 64], dtype)?]),
        |[image, text, norms]| ops::joint_qkv(image, Some(text), Some(norms), 38, 1e-6),
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
    /// Runs `op` for about a second (at least thrice); prints the fastest run, its rate, and the best rate
    /// per second that a core was busy, which other work on the machine disturbs least.
    fn run<I>(
        &self,
        name: &str,
        work: Work,
        inputs: impl FnOnce() -> Result<I>,
        op: impl Fn(&I) -> Result<Tensor>,
    ) -> Result<()> {
        if !name.contains(&self.filter) {
            return Ok(());
        }
        let inputs = inputs()?;
        let (start, mut best, mut least_busy, mut runs) = (Instant::now(), Duration::MAX, Duration::MAX, 0);
        while runs < 3 || start.elapsed() < Duration::from_secs(1) {
            let (begin, busy) = (Instant::now(), busy());
            std::hint::black_box(op(&inputs)?);
            best = best.min(begin.elapsed());
            least_busy = least_busy.min(self::busy().saturating_sub(busy));
            runs += 1;
        }
        let rate = |time: Duration| work.amount / time.as_secs_f64();
        let millis = best.as_secs_f64() * 1e3;
        println!(
            "{name:48} {millis:9.3} ms {:8.1} {} {:8.1} a core",
            rate(best),
            work.unit,
            rate(least_busy)
        );
        Ok(())
    }
}

/// Time that this process' threads have run, by Linux's scheduler.
fn busy() -> Duration {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let schedstat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
    }
    Duration::from_nanos(nanoseconds)
}
