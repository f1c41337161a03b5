//! The fused ops once more in plain candle: the readable definition, and what `fused: false` runs.

use super::{Activation, Conv2dSpec};
use candle_core::{D, DType, Result, Tensor};
use candle_nn::ops::{sigmoid, softmax_last_dim};

/// The dtype of products: candle multiplies bf16 on GPUs only.
fn product_dtype(x: &Tensor) -> DType {
    if x.device().is_cpu() { DType::F32 } else { x.dtype() }
}

pub(super) fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>, act: Activation) -> Result<Tensor> {
    let (dtype, mut shape) = (x.dtype(), x.dims().to_vec());
    let (output, input) = w.dims2()?;
    let product = product_dtype(x);
    let rows = x.contiguous()?.reshape(((), input))?.to_dtype(product)?;
    let y = rows.matmul(&w.to_dtype(product)?.t()?)?;
    let y = match b {
        Some(b) => y.broadcast_add(&b.to_dtype(product)?)?,
        None => y,
    };
    if let Some(last) = shape.last_mut() {
        *last = output;
    }
    activate(&y, act)?.to_dtype(dtype)?.reshape(shape)
}

pub(super) fn add_activate(a: &Tensor, b: &Tensor, act: Activation) -> Result<Tensor> {
    activate(&(a + b)?, act)
}

fn activate(x: &Tensor, act: Activation) -> Result<Tensor> {
    match act {
        Activation::None => Ok(x.clone()),
        Activation::GeluTanh => x.gelu(),
        Activation::GeluErf => x.gelu_erf(),
        Activation::QuickGelu => x * sigmoid(&(x * 1.702)?)?,
        Activation::Silu => x.silu(),
        Activation::Relu => x.relu(),
    }
}

/// `(x - mean) / sqrt(var + eps)` over the last dimension, in f32.
fn standardise(x: &Tensor, eps: f64) -> Result<Tensor> {
    let x = x.to_dtype(DType::F32)?;
    let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)
}

/// Row `index` of `[B, N, D]` as `[B, 1, D]` f32.
fn row(mods: &Tensor, index: usize) -> Result<Tensor> {
    mods.narrow(1, index, 1)?.to_dtype(DType::F32)
}

pub(super) fn layer_norm_modulate(
    x: &Tensor,
    mods: &Tensor,
    shift: usize,
    scale: usize,
    eps: f64,
) -> Result<Tensor> {
    let y = standardise(x, eps)?.broadcast_mul(&(row(mods, scale)? + 1.0)?)?;
    y.broadcast_add(&row(mods, shift)?)?.to_dtype(x.dtype())
}

pub(super) fn gated_add(x: &Tensor, y: &Tensor, mods: &Tensor, gate: usize) -> Result<Tensor> {
    let y = y.to_dtype(DType::F32)?.broadcast_mul(&row(mods, gate)?)?;
    (x.to_dtype(DType::F32)? + y)?.to_dtype(x.dtype())
}

pub(super) fn layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
    let y = standardise(x, eps)?.broadcast_mul(&w.to_dtype(DType::F32)?)?;
    y.broadcast_add(&b.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}

pub(super) fn rms_norm(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    let y = x.to_dtype(DType::F32)?;
    let y = y.broadcast_div(&(y.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)?;
    y.broadcast_mul(&w.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}

pub(super) fn joint_qkv(
    image: &Tensor,
    text: Option<&Tensor>,
    norms: Option<&Tensor>,
    heads: usize,
    eps: f64,
) -> Result<Tensor> {
    let image = split_heads(image, norms, 0, heads, eps)?;
    match text {
        Some(text) => Tensor::cat(&[image, split_heads(text, norms, 2, heads, eps)?], 1),
        None => Ok(image),
    }
}

/// `[B, L, 3D]` to `[B, L, 3, H, Dh]`, q and k normalised by rows `first` and `first + 1` of `norms`.
fn split_heads(x: &Tensor, norms: Option<&Tensor>, first: usize, heads: usize, eps: f64) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    let x = x.reshape((batch, length, 3, heads, width / 3 / heads))?;
    let Some(norms) = norms else { return Ok(x) };
    let part = |index: usize| x.narrow(2, index, 1)?.contiguous();
    let q = rms_norm(&part(0)?, &norms.get(first)?, eps)?;
    let k = rms_norm(&part(1)?, &norms.get(first + 1)?, eps)?;
    Tensor::cat(&[q, k, part(2)?], 2)
}

pub(super) fn attention(qkv: &Tensor) -> Result<Tensor> {
    let (batch, length, _, heads, head_dim) = qkv.dims5()?;
    let product = product_dtype(qkv);
    let part =
        |index: usize| qkv.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?.to_dtype(product)?.contiguous();
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
    let scores = (q.matmul(&k.t()?)?.to_dtype(DType::F32)? * (head_dim as f64).powf(-0.5))?;
    let y = softmax_last_dim(&scores)?.to_dtype(product)?.matmul(&v)?;
    y.transpose(1, 2)?.reshape((batch, length, heads * head_dim))?.to_dtype(qkv.dtype())
}

pub(super) fn biased_attention(qkv: &Tensor, bias: &Tensor, scale: f32) -> Result<Tensor> {
    let (batch, length, _, heads, head_dim) = qkv.dims5()?;
    let part = |index: usize| {
        qkv.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?.to_dtype(DType::F32)?.contiguous()
    };
    let scores = (part(0)?.matmul(&part(1)?.t()?)? * f64::from(scale))?.broadcast_add(bias)?;
    let y = softmax_last_dim(&scores)?.matmul(&part(2)?)?.to_dtype(qkv.dtype())?;
    y.transpose(1, 2)?.reshape((batch, length, heads * head_dim))
}

pub(super) fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, spec: Conv2dSpec) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let (dtype, product) = (x.dtype(), product_dtype(x));
    let x = x.to_dtype(product)?;
    let x = if spec.upsample { x.upsample_nearest2d(2 * height, 2 * width)? } else { x };
    let y = x.conv2d(&w.to_dtype(product)?, spec.padding, spec.stride, 1, 1)?;
    match b {
        Some(b) => y.broadcast_add(&b.to_dtype(product)?.reshape((1, (), 1, 1))?)?.to_dtype(dtype),
        None => y.to_dtype(dtype),
    }
}

pub(super) fn group_norm(
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    groups: usize,
    eps: f64,
    act: Activation,
) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let y = standardise(&x.reshape((batch, groups, ()))?, eps)?.reshape((batch, channels, height, width))?;
    let affine = |t: &Tensor| t.to_dtype(DType::F32)?.reshape((1, channels, 1, 1));
    let y = y.broadcast_mul(&affine(w)?)?.broadcast_add(&affine(b)?)?;
    activate(&y, act)?.to_dtype(x.dtype())
}
