//! Times each op on shapes of real models: `cargo bench -p latentd-kernels [-- FILTER]`; on the first GPU with
//! `--features cuda`, where a denoising step comes first, op by op and kernel by kernel.
//!
//! - `--step` times the denoising step alone (a GPU only)
//! - `--small` takes tiny shapes, to test all ops on an emulated GPU, where large ones take hours
//! - `--json FILE` also writes the results there
//!
//! Prints the fastest of several runs and what it amounts to, since other work on the machine only ever
//! adds time. `../ops_torch.py` times the same shapes with torch.

mod measure;
#[cfg(feature = "cuda")]
mod step;

use candle_core::{DType, Result};
use latentd_kernels::{self as ops, Activation, Conv2dSpec};
use measure::{Bench, DEVICE, Work, random};

fn main() -> Result<()> {
    let bench = Bench::from_arguments();
    #[cfg(feature = "cuda")]
    step::all(&bench)?;
    if !bench.step_alone {
        let dtypes = if DEVICE.is_cuda() { vec![DType::BF16] } else { vec![DType::F32, DType::BF16] };
        for dtype in dtypes {
            linear(&bench, dtype)?;
            attention(&bench, dtype)?;
            conv2d(&bench, dtype)?;
            rows(&bench, dtype)?;
        }
    }
    bench.write_json()
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

/// The memory-bound ops, counted as one read of each input and one write.
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
