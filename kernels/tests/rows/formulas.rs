//! The formulas of the ops over rows in plain candle: on any device, in the type of their inputs.

use candle_core::{D, Result, Tensor};

/// The epsilon of every norm here.
pub(crate) const EPS: f64 = 1e-6;

/// RMSNorm over the last dimension, without weights.
pub(crate) fn plain_rms(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?)
}

/// LayerNorm over the last dimension, without weights.
pub(crate) fn plain_norm(x: &Tensor) -> Result<Tensor> {
    plain_rms(&x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?)
}

/// LayerNorm of `x` `[B, L, D]`, by rows `shift` and `scale` of `mods` `[B, N, D]`.
pub(crate) fn plain_modulate(x: &Tensor, mods: &Tensor, shift: usize, scale: usize) -> Result<Tensor> {
    let (scale, shift) = ((mods.narrow(1, scale, 1)? + 1.0)?, mods.narrow(1, shift, 1)?);
    plain_norm(x)?.broadcast_mul(&scale)?.broadcast_add(&shift)
}

/// `x + y * gate`, row `gate` of `mods` `[B, N, D]`.
pub(crate) fn plain_add(x: &Tensor, y: &Tensor, mods: &Tensor, gate: usize) -> Result<Tensor> {
    x + y.broadcast_mul(&mods.narrow(1, gate, 1)?)?
}

/// `joint_qkv`; text and norms as the op takes them.
pub(crate) fn plain_qkv(
    image: &Tensor,
    text: Option<&Tensor>,
    norms: Option<&Tensor>,
    heads: usize,
) -> Result<Tensor> {
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
