//! A step of SD3.5 Large at 1024x1024 with guidance, op by op: every kernel of attention and every epilogue of a product,
//! with the limits of the card, a copy and square products.

use crate::measure::{Bench, DEVICE, Work, random};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Result, Tensor};
use latentd_kernels::cuda::BlockMatrix;
use latentd_kernels::cuda::attention::Kernel;
use latentd_kernels::{self as ops, Activation};

const BF16: DType = DType::BF16;
const BATCH: usize = 2;
const HEAD: usize = 64;

/// Ceilings of the rates.
const COPY: &str = "copy";
const SQUARE_BF16: &str = "square bf16";
const SQUARE_FP8: &str = "square fp8";

/// Image tokens, text tokens with 256 and with 512 of T5's, heads, and the side of the square products.
struct Sizes {
    image: usize,
    texts: [usize; 2],
    heads: usize,
    side: usize,
}

pub(crate) fn all(bench: &Bench) -> Result<()> {
    let of = if bench.small {
        Sizes { image: 32, texts: [16, 24], heads: 2, side: 64 }
    } else {
        Sizes { image: 4096, texts: [333, 589], heads: 38, side: 8192 }
    };
    let side = of.side;
    let copied = || random(&[side, 2 * side], BF16);
    bench.run(&format!("copy {side}x{}", 2 * side), bytes(4 * side * side), copied, Tensor::copy)?;
    products(bench, &of)?;
    attentions(bench, &of)?;
    blocks(bench, &of)?;
    rows(bench, &of)
}

/// The matrix of an MLP as GGUF files have it: blocks of zeros, which take as long as others.
fn blocks(bench: &Bench, of: &Sizes) -> Result<()> {
    let [rows, columns] = [4 * HEAD * of.heads, HEAD * of.heads];
    for dtype in [GgmlDType::Q8_0, GgmlDType::Q4_0] {
        let packed = rows * columns / dtype.block_size() * dtype.type_size();
        let matrix =
            || BlockMatrix::new(vec![(dtype, Tensor::zeros(packed, DType::U8, &DEVICE)?)], [rows, columns]);
        let work = Work::bytes(packed + rows * columns * BF16.size_in_bytes()).under(COPY);
        bench.run(&format!("dequantize {dtype:?} {rows}x{columns}"), work, matrix, |matrix| {
            matrix.dequantize(BF16)
        })?;
    }
    Ok(())
}

fn bytes(elements: usize) -> Work {
    Work::bytes(elements * BF16.size_in_bytes()).under(COPY)
}

fn products(bench: &Bench, of: &Sizes) -> Result<()> {
    let (image, text, d) = (BATCH * of.image, BATCH * of.texts[0], HEAD * of.heads);
    let fp8 = ops::cuda::check_fp8(&DEVICE).inspect_err(|error| println!("fp8: LEFT OUT, {error}")).is_ok();
    let layers = [
        ("square", [of.side; 3]),
        ("image qkv", [image, d, 3 * d]),
        ("image projection", [image, d, d]),
        ("image mlp in", [image, d, 4 * d]),
        ("image mlp out", [image, 4 * d, d]),
        ("text qkv", [text, d, 3 * d]),
        ("text projection", [text, d, d]),
        ("text mlp in", [text, d, 4 * d]),
        ("text mlp out", [text, 4 * d, d]),
        ("modulations", [BATCH, d, 6 * d]),
    ];
    for (name, shape) in layers {
        epilogues(bench, name, shape)?;
        if fp8 {
            in_fp8(bench, name, shape)?;
        }
    }
    Ok(())
}

fn inputs([m, k, n]: [usize; 3]) -> Result<[Tensor; 3]> {
    Ok([random(&[m, k], BF16)?, random(&[n, k], BF16)?, random(&[n], BF16)?])
}

/// GELU in the product's epilogue against GELU in place after it: a library may choose a slower product for the former.
fn epilogues(bench: &Bench, name: &str, shape @ [m, k, n]: [usize; 3]) -> Result<()> {
    type Run = fn(&[Tensor; 3]) -> Result<Tensor>;
    let variants: [(&str, Run); 4] = [
        ("plain", |[x, w, _]| ops::linear(x, w, None, Activation::None)),
        ("bias", |[x, w, b]| ops::linear(x, w, Some(b), Activation::None)),
        ("bias and GELU in the epilogue", |[x, w, b]| ops::linear(x, w, Some(b), Activation::GeluTanh)),
        ("bias, then GELU", |[x, w, b]| {
            let y = ops::linear(x, w, Some(b), Activation::None)?;
            ops::cuda::elementwise::activate(&y, Activation::GeluTanh)?;
            Ok(y)
        }),
    ];
    for (variant, run) in variants {
        let work = Work::flops(2 * m * k * n).under(SQUARE_BF16);
        bench.run(&format!("{name} {m}x{k}x{n} bf16, {variant}"), work, || inputs(shape), run)?;
    }
    Ok(())
}

fn in_fp8(bench: &Bench, name: &str, shape @ [m, k, n]: [usize; 3]) -> Result<()> {
    let rowwise = || {
        let [x, w, bias] = inputs(shape)?;
        Ok((ops::quantize_rowwise(&x, false)?, ops::quantize_rowwise(&w, false)?, bias))
    };
    for (variant, biased) in [("plain", false), ("bias", true)] {
        let work = Work::flops(2 * m * k * n).under(SQUARE_FP8);
        bench.run(&format!("{name} {m}x{k}x{n} fp8, {variant}"), work, rowwise, |(x, w, bias)| {
            ops::cuda::linear_rowwise(x, w, biased.then_some(bias))
        })?;
    }
    Ok(())
}

fn attentions(bench: &Bench, of: &Sizes) -> Result<()> {
    for text in of.texts {
        let (length, heads) = (of.image + text, of.heads);
        let qkv = random(&[BATCH, length, 3, heads, HEAD], BF16)?;
        for kernel in Kernel::ALL {
            let name = format!("attention {BATCH}x{length}x{heads}x{HEAD} {kernel:?}");
            if !kernel.takes(&qkv)? {
                println!("{name}: LEFT OUT, this card does not run it");
                continue;
            }
            let work = Work::flops(4 * BATCH * length * length * heads * HEAD).under(SQUARE_BF16);
            bench.run(&name, work, || Ok(qkv.clone()), |qkv| kernel.attention(qkv))?;
        }
    }
    Ok(())
}

/// The memory-bound ops, counted as one read of each input and one write.
fn rows(bench: &Bench, of: &Sizes) -> Result<()> {
    let (b, d, heads) = (BATCH, HEAD * of.heads, of.heads);
    let (image, text) = (of.image, of.texts[0]);
    let joint = || {
        let stream = |length: usize| random(&[b, length, 3 * d], BF16);
        Ok([stream(image)?, stream(text)?, random(&[4, HEAD], BF16)?])
    };
    let name = format!("joint_qkv {b}x({image}+{text})x{}", 3 * d);
    bench.run(&name, bytes(2 * b * (image + text) * 3 * d), joint, |[image, text, norms]| {
        ops::joint_qkv(image, Some(text), Some(norms), heads, 1e-6)
    })?;
    for (stream, tokens) in [("image", image), ("text", text)] {
        let elements = b * tokens * d;
        let sum = || {
            let rows = || random(&[b, tokens, d], BF16);
            Ok([rows()?, rows()?, random(&[b, 454, d], BF16)?])
        };
        let name = |op: &str| format!("{op} {stream} {b}x{tokens}x{d}");
        bench.run(&name("layer_norm_modulate"), bytes(2 * elements), sum, |[x, _, mods]| {
            ops::layer_norm_modulate(x, mods, 0, 1, 1e-6)
        })?;
        bench.run(
            &name("layer_norm_modulate, fp8"),
            bytes(elements + elements / 2),
            sum,
            |[x, _, mods]| ops::layer_norm_modulate_rowwise(x, mods, 0, 1, 1e-6).map(|normed| normed.values),
        )?;
        bench.run(&name("gated_add"), bytes(3 * elements), sum, |[x, y, mods]| {
            ops::gated_add(x, y, mods, 2)
        })?;
        bench.run(&name("gated_add_modulate"), bytes(4 * elements), sum, |[x, y, mods]| {
            ops::gated_add_modulate(x, y, mods, 2, (3, 4), 1e-6).map(|(_, normed)| normed)
        })?;
        bench.run(
            &name("gated_add_modulate, fp8"),
            bytes(3 * elements + elements / 2),
            sum,
            |[x, y, mods]| {
                ops::gated_add_modulate_rowwise(x, y, mods, 2, (3, 4), 1e-6).map(|(_, normed)| normed.values)
            },
        )?;
        for (what, gelu) in [("quantize_rowwise", false), ("quantize_rowwise, GELU", true)] {
            let hidden = || random(&[b, tokens, 4 * d], BF16);
            let name = format!("{what} {stream} {b}x{tokens}x{}", 4 * d);
            bench.run(&name, bytes(4 * elements + 2 * elements), hidden, |x| {
                ops::quantize_rowwise(x, gelu).map(|rows| rows.values)
            })?;
        }
    }
    Ok(())
}
