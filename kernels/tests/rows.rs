//! The GPU's ops over rows against the formulas in f64 and against the CPU's ops. Needs a GPU, and fails without one.
#![cfg(feature = "cuda")]
#![expect(clippy::unwrap_used, reason = "a test")]

use candle_core::{D, DType, Device, Result, Tensor};
use latentd_kernels::{self as ours, Rowwise};
use std::sync::OnceLock;

const EPS: f64 = 1e-6;
const TYPES: [DType; 2] = [DType::F32, DType::BF16];

fn gpu() -> &'static Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(|| ours::cuda::open(0).expect("these tests need a GPU"))
}

/// Standard normal numbers (Box-Muller over splitmix64) of a type, on the CPU.
fn normal(dims: &[usize], seed: u64, dtype: DType) -> Tensor {
    let uniform = |i: u64| {
        let mut z = (seed << 40).wrapping_add(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    };
    let n: usize = dims.iter().product();
    let at = |i| (-2.0 * uniform(2 * i).ln()).sqrt() * (std::f64::consts::TAU * uniform(2 * i + 1)).cos();
    let values: Vec<f64> = (0..n as u64).map(at).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// The same view of the same numbers on the GPU: what lies around it is copied as well.
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
    let apart = |(a, b): (f64, f64)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) => (a - b).abs(),
        _ => f64::INFINITY,
    };
    Ok(f64s(a)?.into_iter().zip(f64s(b)?).map(apart).fold(0.0, f64::max))
}

fn largest(x: &Tensor) -> Result<f64> {
    Ok(f64s(x)?.into_iter().filter(|v| !v.is_nan()).fold(0.0, |m, v| v.abs().max(m)))
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

fn plain_rms(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?)
}

fn plain_norm(x: &Tensor) -> Result<Tensor> {
    plain_rms(&x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?)
}

fn plain_modulate(x: &Tensor, mods: &Tensor, shift: usize, scale: usize) -> Result<Tensor> {
    let (scale, shift) = ((mods.narrow(1, scale, 1)? + 1.0)?, mods.narrow(1, shift, 1)?);
    plain_norm(x)?.broadcast_mul(&scale)?.broadcast_add(&shift)
}

fn plain_add(x: &Tensor, y: &Tensor, mods: &Tensor, gate: usize) -> Result<Tensor> {
    x + y.broadcast_mul(&mods.narrow(1, gate, 1)?)?
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

/// Inputs of an adaptive norm and its residual, on the CPU and the GPU: x is a part of longer sequences, y of others, and
/// the modulations of more of them.
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

#[test]
fn layer_norm_modulate() -> Result<()> {
    for (rows, dtype) in ROWS.into_iter().flat_map(|rows| TYPES.map(|dtype| (rows, dtype))) {
        for (amplitude, offset) in [(1.0, 0.0), (1e4, 3e4)] {
            let block = Block::new(rows, dtype, amplitude, offset)?;
            let ([x, _, mods], [gx, _, gm], [wx, _, wm]) = (&block.cpu, &block.gpu, &block.wide()?);
            let results = Results {
                gpu: ours::layer_norm_modulate(gx, gm, 3, 4, EPS)?,
                cpu: ours::layer_norm_modulate(x, mods, 3, 4, EPS)?,
                plain: plain_modulate(x, mods, 3, 4)?,
                exact: plain_modulate(wx, wm, 3, 4)?,
            };
            let bound = NORM_BOUND * (1.0 + offset / amplitude);
            results.judge(&format!("layer_norm_modulate {rows:?} {dtype:?} * {amplitude}"), bound)?;
        }
    }
    Ok(())
}

#[test]
fn gated_add_and_the_norm_that_follows() -> Result<()> {
    for (rows, dtype) in ROWS.into_iter().flat_map(|rows| TYPES.map(|dtype| (rows, dtype))) {
        let block = Block::new(rows, dtype, 3.0, 0.0)?;
        let ([x, y, mods], [gx, gy, gm], [wx, wy, wm]) = (&block.cpu, &block.gpu, &block.wide()?);
        let sum = ours::gated_add(gx, gy, gm, 2)?;
        let results = Results {
            gpu: sum.clone(),
            cpu: ours::gated_add(x, y, mods, 2)?,
            plain: plain_add(x, y, mods, 2)?,
            exact: plain_add(wx, wy, wm, 2)?,
        };
        // One fused step, rounded once.
        results.judge(&format!("gated_add {rows:?} {dtype:?}"), 0.51 * f64::from(f32::EPSILON))?;

        let (again, normed) = ours::gated_add_modulate(gx, gy, gm, 2, gm, 0, 5, EPS)?;
        assert_eq!(bits(&again)?, bits(&sum)?, "the sum of gated_add_modulate {rows:?} {dtype:?}");
        let alone = ours::layer_norm_modulate(&sum, gm, 0, 5, EPS)?;
        assert_eq!(bits(&normed)?, bits(&alone)?, "the norm of gated_add_modulate {rows:?} {dtype:?}");
        let (again, rowwise) = ours::gated_add_modulate_rowwise(gx, gy, gm, 2, gm, 0, 5, EPS)?;
        assert_eq!(bits(&again)?, bits(&sum)?, "the sum of gated_add_modulate_rowwise {rows:?} {dtype:?}");
        let alone = ours::layer_norm_modulate_rowwise(&sum, gm, 0, 5, EPS)?;
        assert_eq!(bits(&rowwise.values)?, bits(&alone.values)?, "{rows:?} {dtype:?}");
        assert_eq!(bits(&rowwise.scales)?, bits(&alone.scales)?, "{rows:?} {dtype:?}");
        check_rowwise(&rowwise, &plain_modulate(&wide(&sum)?, wm, 0, 5)?, NORM_BOUND)?;
    }
    Ok(())
}

#[test]
fn norms_with_weights() -> Result<()> {
    let shapes: [&[usize]; 9] = [
        &[77, 768],
        &[2, 9, 1280],
        &[1, 5, 4096],
        &[3, 2432],
        &[5, 1],
        &[2, 3, 4, 50],
        &[64],
        &[2, 20488],
        &[4, 24],
    ];
    for (dims, dtype) in shapes.into_iter().flat_map(|dims| TYPES.map(|dtype| (dims, dtype))) {
        for amplitude in [1.0, 1e4] {
            let width = dims[dims.len() - 1];
            let x = (normal(dims, 1, DType::F64) * amplitude)?.to_dtype(dtype)?;
            let (w, b) = (normal(&[width], 2, dtype), normal(&[width], 3, dtype));
            let rms = |x: &Tensor, w: &Tensor| plain_rms(x)?.broadcast_mul(w);
            let layer =
                |x: &Tensor, w: &Tensor, b: &Tensor| plain_norm(x)?.broadcast_mul(w)?.broadcast_add(b);
            let results = Results {
                gpu: ours::rms_norm(&up(&x)?, &up(&w)?, EPS)?,
                cpu: ours::rms_norm(&x, &w, EPS)?,
                plain: rms(&x, &w)?,
                exact: rms(&wide(&x)?, &wide(&w)?)?,
            };
            results.judge(&format!("rms_norm {dims:?} {dtype:?} * {amplitude}"), NORM_BOUND)?;
            let results = Results {
                gpu: ours::layer_norm(&up(&x)?, &up(&w)?, &up(&b)?, EPS)?,
                cpu: ours::layer_norm(&x, &w, &b, EPS)?,
                plain: layer(&x, &w, &b)?,
                exact: layer(&wide(&x)?, &wide(&w)?, &wide(&b)?)?,
            };
            results.judge(&format!("layer_norm {dims:?} {dtype:?} * {amplitude}"), NORM_BOUND)?;
        }
    }
    Ok(())
}

/// Plain candle in the type of `image`; text and norms as the op takes them.
fn plain_qkv(image: &Tensor, text: Option<&Tensor>, norms: Option<&Tensor>, heads: usize) -> Result<Tensor> {
    let stream = |x: &Tensor, first: usize| -> Result<Tensor> {
        let (batch, seq, width) = x.dims3()?;
        let x = x.contiguous()?.reshape((batch, seq, 3, heads, width / (3 * heads)))?;
        let Some(norms) = norms else { return Ok(x) };
        let normed = |i: usize| plain_rms(&x.narrow(2, i, 1)?)?.broadcast_mul(&norms.get(first + i)?);
        Tensor::cat(&[normed(0)?, normed(1)?, x.narrow(2, 2, 1)?], 2)
    };
    match text {
        Some(text) => Tensor::cat(&[stream(image, 0)?, stream(text, 2)?], 1),
        None => stream(image, 0),
    }
}

#[test]
fn joint_qkv() -> Result<()> {
    // (B, Li, Lt, H, Dh): the models' heads, odd ones, the VAE's, and heads beyond a lane's one word.
    let cases = [
        (2, 9, 5, 38, 64),
        (2, 5, 3, 24, 64),
        (1, 4, 0, 2, 8),
        (2, 3, 2, 3, 5),
        (1, 2, 1, 1, 1),
        (1, 3, 0, 1, 512),
        (2, 3, 1, 2, 80),
        (1, 2, 2, 40, 160),
    ];
    for (case, dtype) in cases.into_iter().flat_map(|case| TYPES.map(|dtype| (case, dtype))) {
        let (b, li, lt, h, dh) = case;
        let (image, image_gpu) = view(&normal(&[b, li + 2, 3 * h * dh], 1, dtype), |x| x.narrow(1, 1, li))?;
        let text = (lt > 0).then(|| normal(&[b, lt, 3 * h * dh], 2, dtype));
        let text_gpu = text.as_ref().map(up).transpose()?;
        let text_wide = text.as_ref().map(wide).transpose()?;
        for norms in [None, Some(normal(&[4, dh], 3, dtype))] {
            let norms_gpu = norms.as_ref().map(up).transpose()?;
            let norms_wide = norms.as_ref().map(wide).transpose()?;
            let results = Results {
                gpu: ours::joint_qkv(&image_gpu, text_gpu.as_ref(), norms_gpu.as_ref(), h, EPS)?,
                cpu: ours::joint_qkv(&image, text.as_ref(), norms.as_ref(), h, EPS)?,
                plain: plain_qkv(&image, text.as_ref(), norms.as_ref(), h)?,
                exact: plain_qkv(&wide(&image)?, text_wide.as_ref(), norms_wide.as_ref(), h)?,
            };
            results.judge(&format!("joint_qkv {case:?} {dtype:?} norms {}", norms.is_some()), NORM_BOUND)?;
            if norms.is_none() {
                assert_eq!(bits(&results.gpu)?, bits(&results.cpu)?, "a copy {case:?} {dtype:?}");
            }
        }
    }
    Ok(())
}

fn e4m3(byte: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if byte & 128 == 0 { magnitude } else { -magnitude }
}

/// The values are `exact` to half a step of e4m3, and the scales those of its rows, but for `bound` of the row's largest.
fn check_rowwise(rowwise: &Rowwise, exact: &Tensor, bound: f64) -> Result<()> {
    assert_eq!(rowwise.values.dims(), exact.dims());
    assert_eq!(rowwise.scales.dims(), &exact.dims()[..exact.rank() - 1]);
    let values: Vec<u8> = rowwise.values.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
    let (scales, width) = (f64s(&rowwise.scales)?, exact.dims()[exact.rank() - 1]);
    for ((row, exact), scale) in values.chunks(width).zip(f64s(exact)?.chunks(width)).zip(scales) {
        let max = exact.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let expected = if max == 0.0 { 1.0 } else { max / 448.0 };
        assert!((scale / expected - 1.0).abs() <= 4.0 * bound + 1e-7, "scale {scale:e} for {expected:e}");
        for (&byte, exact) in row.iter().zip(exact) {
            let allowed =
                scale * (exact.abs() / scale / 16.0).max(1.0 / 1024.0) + 8.0 * bound * max + 1e-6 * max;
            let off = (e4m3(byte) * scale - exact).abs();
            assert!(
                off <= allowed,
                "{byte:#x} * {scale:e} for {exact:e}: off by {off:e}, allowed {allowed:e}"
            );
        }
    }
    Ok(())
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

#[test]
fn e4m3_rows() -> Result<()> {
    for ((b, l, d), dtype) in ROWS.into_iter().flat_map(|rows| TYPES.map(|dtype| (rows, dtype))) {
        for amplitude in [1e-3, 3.0, 1e4] {
            let x = (normal(&[b, l + 1, d], 1, DType::F64) * amplitude)?.to_dtype(dtype)?;
            let (x, on_gpu) = view(&x, |x| x.narrow(1, 1, l))?;
            check_rowwise(&ours::quantize_rowwise(&on_gpu, false)?, &wide(&x)?, 0.0)?;
            let activated: Vec<f64> = f64s(&x)?.into_iter().map(gelu).collect();
            let activated = Tensor::from_vec(activated, (b, l, d), &Device::Cpu)?;
            check_rowwise(&ours::quantize_rowwise(&on_gpu, true)?, &activated, 2e-6)?;
        }
        let block = Block::new((b, l, d), dtype, 2.0, 1.0)?;
        let ([gx, _, gm], [wx, _, wm]) = (&block.gpu, &block.wide()?);
        let rowwise = ours::layer_norm_modulate_rowwise(gx, gm, 1, 0, EPS)?;
        check_rowwise(&rowwise, &plain_modulate(wx, wm, 1, 0)?, NORM_BOUND)?;
    }
    Ok(())
}

#[test]
fn e4m3_scales_of_exact_zero_tiny_and_broken_rows() -> Result<()> {
    let (largest, tiny, none) = (896f32, 1e-40f32, 0f32);
    let mut rows = vec![0f32; 6 * 40];
    for (row, value) in [largest, tiny, none, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].iter().enumerate() {
        rows[row * 40 + 7] = *value;
        rows[row * 40 + 9] = value / 2.0;
    }
    let x = Tensor::from_vec(rows, (6, 40), &Device::Cpu)?;
    for (width, dtype) in [(40, DType::F32), (40, DType::BF16), (39, DType::F32), (39, DType::BF16)] {
        let x = up(&x.narrow(1, 0, width)?.contiguous()?.to_dtype(dtype)?)?;
        let rowwise = ours::quantize_rowwise(&x, false)?;
        let values: Vec<u8> = rowwise.values.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        let scales = f64s(&rowwise.scales)?;
        let at = |row: usize, column: usize| e4m3(values[row * width + column]) * scales[row];
        assert_eq!((scales[0], at(0, 7), at(0, 9), at(0, 0)), (2.0, 896.0, 448.0, 0.0));
        assert!(scales[1] > 0.0 && at(1, 7) >= 0.0 && at(1, 0) == 0.0, "tiny: {} {}", scales[1], at(1, 7));
        assert_eq!((scales[2], at(2, 7)), (1.0, 0.0));
        for row in 3..6 {
            assert!(!at(row, 7).is_finite() && !at(row, 9).is_finite(), "row {row}: {}", at(row, 7));
        }
    }
    Ok(())
}

/// Neither a batch element's neighbours nor how rows lie in memory changes a bit.
#[test]
fn bits_depend_on_the_row_alone() -> Result<()> {
    for ((b, l, d), dtype) in ROWS.into_iter().flat_map(|rows| TYPES.map(|dtype| (rows, dtype))) {
        // One element more in each row, so that rows begin anywhere: the same numbers off their 16-byte places.
        let off = |x: &Tensor| Tensor::cat(&[&x.narrow(2, 0, 1)?, x], 2)?.contiguous()?.narrow(2, 1, d);
        let block = Block::new((b, l, d), dtype, 2.0, 1.0)?;
        let [x, y, mods] = &block.gpu;
        let last = |x: &Tensor| x.narrow(0, b - 1, 1);
        let all = |x: &Tensor, y: &Tensor, mods: &Tensor| -> Result<Vec<Tensor>> {
            let (sum, normed) = ours::gated_add_modulate(x, y, mods, 0, mods, 1, 2, EPS)?;
            let rowwise = ours::layer_norm_modulate_rowwise(x, mods, 4, 5, EPS)?;
            let activated = ours::quantize_rowwise(y, true)?;
            let weight = mods.get(0)?.get(3)?;
            let normed_by_weight = ours::rms_norm(x, &weight, EPS)?;
            Ok(vec![
                sum,
                normed,
                rowwise.values,
                rowwise.scales,
                activated.values,
                activated.scales,
                normed_by_weight,
            ])
        };
        let whole = all(x, y, mods)?;
        for (i, (a, b)) in whole.iter().zip(all(&off(x)?, &off(y)?, &off(mods)?)?).enumerate() {
            assert_eq!(bits(a)?, bits(&b)?, "result {i} of {:?} {dtype:?} off 16 bytes", (l, d));
        }
        let alone = all(&last(x)?, &last(y)?, &last(mods)?)?;
        for (i, (a, b)) in whole.iter().zip(alone).enumerate().take(6) {
            assert_eq!(bits(&last(a)?)?, bits(&b)?, "result {i} of {:?} {dtype:?} alone", (l, d));
        }
    }
    Ok(())
}

#[test]
fn nan_stays_in_its_row() -> Result<()> {
    for (width, dtype) in [(96, DType::F32), (96, DType::BF16), (50, DType::F32), (50, DType::BF16)] {
        let mut rows = f64s(&normal(&[1, 6, width], 1, DType::F64))?;
        rows[2 * width + 5] = f64::NAN;
        let x = up(&Tensor::from_vec(rows, (1, 6, width), &Device::Cpu)?.to_dtype(dtype)?)?;
        let mods = up(&normal(&[1, 3, width], 2, dtype))?;
        let weight = mods.get(0)?.get(0)?;
        let (sum, normed) = ours::gated_add_modulate(&x, &x, &mods, 0, &mods, 1, 2, EPS)?;
        let rows = [
            ours::layer_norm_modulate(&x, &mods, 0, 1, EPS)?,
            normed,
            ours::rms_norm(&x, &weight, EPS)?,
            ours::layer_norm(&x, &weight, &weight, EPS)?,
        ];
        for y in rows {
            assert!(f64s(&y)?.iter().enumerate().all(|(i, v)| v.is_nan() == (i / width == 2)));
        }
        assert!(f64s(&sum)?.iter().enumerate().all(|(i, v)| v.is_nan() == (i == 2 * width + 5)));
        let rowwise = ours::layer_norm_modulate_rowwise(&x, &mods, 0, 1, EPS)?;
        let values: Vec<u8> = rowwise.values.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        assert!(values.iter().enumerate().all(|(i, v)| e4m3(*v).is_nan() == (i / width == 2)));
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let x = normal(&[2, 3, 8], 1, DType::F32);
    let (mods, on_gpu) = (normal(&[2, 6, 8], 2, DType::F32), up(&x)?);
    let mods_gpu = up(&mods)?;
    let refused = |result: Result<Tensor>, word: &str| {
        let error = result.expect_err(word).to_string();
        assert!(error.contains(word), "{error} does not say {word}");
    };
    refused(ours::layer_norm_modulate(&on_gpu, &mods, 0, 1, EPS), "Cpu");
    refused(ours::layer_norm_modulate(&on_gpu, &mods_gpu.to_dtype(DType::BF16)?, 0, 1, EPS), "BF16");
    refused(ours::layer_norm_modulate(&on_gpu, &mods_gpu, 0, 6, EPS), "scale 6");
    refused(
        ours::layer_norm_modulate(
            &on_gpu.transpose(1, 2)?,
            &up(&normal(&[2, 6, 3], 1, DType::F32))?,
            0,
            1,
            EPS,
        ),
        "strides",
    );
    refused(ours::gated_add(&on_gpu, &x, &mods_gpu, 0), "Cpu");
    refused(
        ours::rms_norm(&on_gpu.to_dtype(DType::F16)?, &on_gpu.get(0)?.get(0)?.to_dtype(DType::F16)?, EPS),
        "F16",
    );
    Ok(())
}
