//! Times each op on shapes of real models: `cargo bench -p latentd-kernels [-- FILTER]`; on the first GPU with
//! `--features cuda`.
//!
//! With `--small` the same ops run on tiny shapes, to see that they run where they would take hours: on an emulated GPU.
//!
//! Prints the fastest of several runs and what it amounts to, since other work on the machine only ever
//! adds time. `ops_torch.py` beside it times the same shapes with torch.

use candle_core::{DType, Device, Result, Tensor};
use latentd_kernels::{self as ops, Activation, Conv2dSpec};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let bench = Bench { filter, small: std::env::args().any(|arg| arg == "--small") };
    #[cfg(feature = "cuda")]
    large(&bench)?;
    let dtypes = if DEVICE.is_cuda() { vec![DType::BF16] } else { vec![DType::F32, DType::BF16] };
    for dtype in dtypes {
        linear(&bench, dtype)?;
        attention(&bench, dtype)?;
        conv2d(&bench, dtype)?;
        rows(&bench, dtype)?;
    }
    Ok(())
}

/// Where everything runs.
static DEVICE: LazyLock<Device> = LazyLock::new(|| {
    #[cfg(feature = "cuda")]
    return ops::cuda::open(0, None).expect("built for CUDA, so there must be a GPU");
    #[cfg(not(feature = "cuda"))]
    Device::Cpu
});

/// A step of SD3.5 Large at 1024x1024 with guidance, op by op, beside what the card can do: a copy and a square product.
#[cfg(feature = "cuda")]
fn large(bench: &Bench) -> Result<()> {
    let bf16 = DType::BF16;
    let (image, text, heads, side) = if bench.small { (32, 16, 2, 64) } else { (4096, 333, 38, 8192) };
    let (b, d) = (2, 64 * heads);
    let bytes = |elements: usize| Work::bytes(elements * bf16.size_in_bytes());
    let copied = || random(&[side, 2 * side], bf16);
    bench.run(&format!("ceiling: copy {side}x{}", 2 * side), bytes(4 * side * side), copied, Tensor::copy)?;
    let products = [
        ("ceiling: linear", side, side, side, Activation::None),
        ("image qkv", b * image, d, 3 * d, Activation::None),
        ("image projection", b * image, d, d, Activation::None),
        ("image mlp in", b * image, d, 4 * d, Activation::GeluTanh),
        ("image mlp out", b * image, 4 * d, d, Activation::None),
        ("text qkv", b * text, d, 3 * d, Activation::None),
        ("text mlp in", b * text, d, 4 * d, Activation::GeluTanh),
    ];
    for (name, m, k, n, act) in products {
        let inputs = || Ok([random(&[m, k], bf16)?, random(&[n, k], bf16)?, random(&[n], bf16)?]);
        let work = || Work::flops(2 * m * k * n);
        bench.run(&format!("{name} {m}x{k}x{n} bf16"), work(), inputs, |[x, w, bias]| {
            ops::linear(x, w, Some(bias), act)
        })?;
        let rowwise = || {
            let [x, w, bias] = inputs()?;
            Ok((ops::quantize_rowwise(&x, false)?, ops::quantize_rowwise(&w, false)?, bias))
        };
        bench.run(&format!("{name} {m}x{k}x{n} fp8"), work(), rowwise, |(x, w, bias)| {
            ops::cuda::linear_rowwise(x, w, Some(bias))
        })?;
    }
    let (l, tokens) = (image + text, || random(&[b, image, d], bf16));
    let flops = Work::flops(4 * b * l * l * d);
    let qkv = || random(&[b, l, 3, heads, 64], bf16);
    bench.run(&format!("joint attention {b}x{l}x{heads}x64"), flops, qkv, ops::attention)?;
    let stream = |length: usize| random(&[b, length, 3 * d], bf16);
    let joint = || Ok([stream(image)?, stream(text)?, random(&[4, 64], bf16)?]);
    let name = format!("joint qkv {b}x({image}+{text})");
    bench.run(&name, bytes(2 * b * l * 3 * d), joint, |[image, text, norms]| {
        ops::joint_qkv(image, Some(text), Some(norms), heads, 1e-6)
    })?;
    let sum = || Ok([tokens()?, tokens()?, random(&[b, 454, d], bf16)?]);
    let elements = b * image * d;
    bench.run(&format!("gated add + norm {b}x{image}"), bytes(4 * elements), sum, |[x, y, mods]| {
        ops::gated_add_modulate(x, y, mods, 2, (3, 4), 1e-6).map(|(_, normed)| normed)
    })?;
    let name = format!("gated add + norm, to fp8 {b}x{image}");
    bench.run(&name, bytes(3 * elements + elements / 2), sum, |[x, y, mods]| {
        ops::gated_add_modulate_rowwise(x, y, mods, 2, (3, 4), 1e-6).map(|(_, normed)| normed.values)
    })?;
    let hidden = || random(&[b, image, 4 * d], bf16);
    let name = format!("gelu, to fp8 {b}x{image}x{}", 4 * d);
    bench.run(&name, bytes(4 * elements + 2 * elements), hidden, |x| {
        ops::quantize_rowwise(x, true).map(|rows| rows.values)
    })
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
        let [m, k, n] = bench.fit([m, k, n], 64);
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
        let ([l], [h]) = (bench.fit([l], 64), bench.fit([h], 2));
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
        let ([c, o], [h, w]) = (bench.fit([c, o], 32), bench.fit([h, w], 16));
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
    let ([c], [h, w]) = (bench.fit([128], 64), bench.fit([768, 1024], 16));
    bench.run(
        &format!("group_norm+silu {c}x{h}x{w} {dtype:?}"),
        Work::bytes(2 * c * h * w * size),
        || Ok([random(&[1, c, h, w], dtype)?, random(&[c], dtype)?]),
        |[x, affine]| ops::group_norm(x, affine, affine, 32, 1e-6, Activation::Silu),
    )?;
    let ([image, text], [heads]) = (bench.fit([3072, 333], 32), bench.fit([38], 2));
    let (b, l, d) = (2, image + text, 64 * heads);
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
        &format!("joint_qkv {b}x({image}+{text})x3x{heads}x64 {dtype:?}"),
        Work::bytes(2 * b * l * 3 * d * size),
        || Ok([stream(image)?, stream(text)?, random(&[4, 64], dtype)?]),
        |[image, text, norms]| ops::joint_qkv(image, Some(text), Some(norms), heads, 1e-6),
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
    Tensor::from_vec(values, shape, &DEVICE)?.to_dtype(dtype)
}

/// What a call does, in the unit of a rate.
struct Work(f64, &'static str);

impl Work {
    fn flops(n: usize) -> Self {
        Self(n as f64 * 1e-9, "GFLOP/s")
    }

    fn bytes(n: usize) -> Self {
        Self(n as f64 * 1e-9, "GB/s")
    }
}

struct Bench {
    filter: String,
    small: bool,
}

impl Bench {
    /// Sizes of a model, or no more than `most` each.
    fn fit<const N: usize>(&self, sizes: [usize; N], most: usize) -> [usize; N] {
        sizes.map(|size| if self.small { size.min(most) } else { size })
    }

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
        let (best, least_busy) = if DEVICE.is_cuda() {
            (on_the_device(|| op(&inputs))?, None)
        } else {
            let (best, least_busy) = on_the_host(|| op(&inputs))?;
            (best, Some(least_busy))
        };
        let rate = |time: Duration| work.0 / time.as_secs_f64();
        let millis = best.as_secs_f64() * 1e3;
        let a_core = least_busy.map_or_else(String::new, |busy| format!(" {:8.1} a core", rate(busy)));
        println!("{name:48} {millis:9.3} ms {:8.1} {}{a_core}", rate(best), work.1);
        Ok(())
    }
}

/// The fastest call, and the least time that all cores together were busy with one.
fn on_the_host(op: impl Fn() -> Result<Tensor>) -> Result<(Duration, Duration)> {
    let (start, mut best, mut least_busy, mut runs) = (Instant::now(), Duration::MAX, Duration::MAX, 0);
    while runs < 3 || start.elapsed() < Duration::from_secs(1) {
        let (begin, busy) = (Instant::now(), busy());
        std::hint::black_box(op()?);
        best = best.min(begin.elapsed());
        least_busy = least_busy.min(self::busy().saturating_sub(busy));
        runs += 1;
    }
    Ok((best, least_busy))
}

/// The fastest of several batches, by the device's own clock: calls follow each other without the host between them.
fn on_the_device(op: impl Fn() -> Result<Tensor>) -> Result<Duration> {
    #[cfg(feature = "cuda")]
    {
        use ops::cuda::Mark;
        const BATCH: u32 = 10;
        std::hint::black_box(op()?);
        let (start, mut best) = (Instant::now(), Duration::MAX);
        while start.elapsed() < Duration::from_millis(200) {
            let begin = Mark::new(&DEVICE)?;
            for _ in 0..BATCH {
                std::hint::black_box(op()?);
            }
            let end = Mark::new(&DEVICE)?;
            end.wait()?;
            best = best.min(Duration::from_secs_f64(end.seconds_since(&begin)?) / BATCH);
        }
        Ok(best)
    }
    #[cfg(not(feature = "cuda"))]
    on_the_host(op).map(|(best, _)| best)
}

/// Time that this process' threads have run, by Linux's scheduler.
fn busy() -> Duration {
    let nanoseconds = |task: std::fs::DirEntry| -> Option<u64> {
        std::fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    Duration::from_nanos(tasks.filter_map(nanoseconds).sum())
}
