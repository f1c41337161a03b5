//! The transformer's linear layers: bf16 with each epilogue, and fp8 where the card has it.

use super::rows::numbers;
use super::*;
use latentd_kernels::{Activation, linear, quantize_rowwise};

/// Rows, inputs and outputs of the layers of a step; D is the width.
fn layers(of: Sizes) -> Vec<(&'static str, [usize; 3])> {
    let (image, text, d) = (BATCH * of.image, BATCH * of.text, of.width());
    vec![
        ("patches", [image, HEAD, d]),
        ("image qkv", [image, d, 3 * d]),
        ("image projection", [image, d, d]),
        ("image mlp in", [image, d, 4 * d]),
        ("image mlp out", [image, 4 * d, d]),
        ("text qkv", [text, d, 3 * d]),
        ("text mlp in", [text, d, 4 * d]),
        ("text mlp out", [text, 4 * d, d]),
        ("modulations", [BATCH, d, 6 * d]),
        ("last", [image, d, HEAD]),
    ]
}

/// x, w and a bias, such that outputs are of order 1.
fn inputs(device: &Device, [rows, inputs, outputs]: [usize; 3]) -> Result<[Tensor; 3]> {
    let w = normal(device, &[outputs, inputs], (inputs as f64).powf(-0.5))?;
    Ok([normal(device, &[rows, inputs], 1.0)?, w, normal(device, &[outputs], 1.0)?])
}

/// In candle's f32: without a bias, with one, and with GELU (its tanh form) after it.
fn definition(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<[Tensor; 3]> {
    let plain = wide(x)?.matmul(&wide(w)?.t()?)?;
    let biased = plain.broadcast_add(&wide(b)?)?;
    let gelu = biased.gelu()?;
    Ok([plain, biased, gelu])
}

/// Sums are f32's and are rounded once. The epilogue's GELU takes the card's own tanh, which is within 2^-11.
fn judge(what: &str, [x, w, b]: [&Tensor; 3]) -> Result<()> {
    let [plain, biased, gelu] = definition(&wide(x)?.flatten_to(x.rank() - 2)?, w, b)?;
    let epilogues = [
        ("plain", None, Activation::None, plain, F32),
        ("bias", Some(b), Activation::None, biased, F32),
        ("bias and GELU", Some(b), Activation::GeluTanh, gelu, 1.0 / 1024.0),
    ];
    for (name, bias, act, exact, before) in epilogues {
        let ours = cuda::poisoned(|| linear(x, w, bias, act))?.flatten_to(x.rank() - 2)?;
        let off = Off::new(&ours, &exact, exact.dim(1)?)?;
        off.judge(&format!("linear {what} {name} bf16"), MEAN * BF16 + before, BF16 + 2.0 * before);
    }
    Ok(())
}

#[test]
fn bf16_with_each_epilogue() -> Result<()> {
    let device = gpu();
    for of in sizes() {
        for (name, shape) in layers(of) {
            let [x, w, b] = inputs(&device, shape)?;
            judge(&format!("{name} {shape:?}"), [&x, &w, &b])?;
        }
    }
    Ok(())
}

/// After joint attention each stream reads its own tokens: rows that are not contiguous.
#[test]
fn streams_of_the_joint_attention() -> Result<()> {
    let device = gpu();
    for of in sizes() {
        let d = of.width();
        let [joint, w, b] = inputs(&device, [BATCH * of.length(), d, d])?;
        let joint = joint.reshape((BATCH, of.length(), d))?;
        for (first, tokens) in [(0, of.image), (of.image, of.text)] {
            let stream = joint.narrow(1, first, tokens)?;
            judge(&format!("tokens {first}.. [{BATCH}, {tokens}, {d}]"), [&stream, &w, &b])?;
        }
    }
    Ok(())
}

/// Against the same e4m3 numbers in f32. Products are exact, 32 of them are added at a time, and Hopper's fast
/// accumulation cuts a running sum off after 14 bits; then the result is rounded.
#[test]
fn fp8() -> Result<()> {
    let device = gpu();
    if let Err(error) = cuda::check_fp8(&device) {
        println!("linear fp8: LEFT OUT, {error}");
        return Ok(());
    }
    for of in sizes() {
        for (name, shape) in layers(of) {
            let [x, w, b] = inputs(&device, shape)?;
            let (x, w) = (quantize_rowwise(&x, false)?, quantize_rowwise(&w, false)?);
            let [plain, biased, _] = definition(&numbers(&x)?, &numbers(&w)?, &b)?;
            let before = F32 + shape[1] as f64 / 32.0 / 8192.0;
            for (bias, exact) in [(None, plain), (Some(&b), biased)] {
                let ours = cuda::poisoned(|| cuda::linear_rowwise(&x, &w, bias))?;
                let what = format!("linear {name} {shape:?} bias {} fp8", bias.is_some());
                Off::new(&ours, &exact, shape[2])?.judge(&what, MEAN * BF16 + before, BF16 + 2.0 * before);
            }
        }
    }
    Ok(())
}
