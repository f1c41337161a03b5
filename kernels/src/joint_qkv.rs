//! Lays the q, k and v of image and text tokens side by side for joint attention, normalising q and k.

use crate::cpu::element::Element;
use crate::cpu::view::{Rows, contiguous};
use crate::cpu::{ROWS_TASK_ELEMENTS, by_dtype};
use crate::norm::rms;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Joins `image` and `text` along the sequence, image first, as heads; q and k are RMS-normalised per head.
///
/// - `image`: `[B, Li, 3 * H * Dh]` f32|bf16, last stride 1: q, k, v one after the other
/// - `text`: `[B, Lt, 3 * H * Dh]` likewise, or none
/// - `norms`: weights `[4, Dh]` (image q, image k, text q, text k), of which text none needs `[2, Dh]`
///   only; or none, and q and k are copied
///
/// Returns `[B, Li + Lt, 3, H, Dh]`, contiguous.
///
/// # Errors
/// The shapes do not fit each other or `heads`, or types, devices or a last stride are others.
pub fn joint_qkv(
    image: &Tensor,
    text: Option<&Tensor>,
    norms: Option<&Tensor>,
    heads: usize,
    eps: f64,
) -> Result<Tensor> {
    let shapes = || {
        format!(
            "image {:?}, text {:?}, norms {:?}",
            image.dims(),
            text.map(|t| t.dims()),
            norms.map(|n| n.dims())
        )
    };
    let &[batch, _, width] = image.dims() else {
        bail!("joint_qkv: {}: expected [B, Li, 3 * H * Dh]", shapes())
    };
    if heads == 0 || width % (3 * heads) != 0 {
        bail!("joint_qkv: {}: {width} is not 3 * {heads} heads", shapes())
    }
    if text.is_some_and(|t| t.rank() != 3 || t.dims()[0] != batch || t.dims()[2] != width) {
        bail!("joint_qkv: {}: expected text [{batch}, Lt, {width}]", shapes())
    }
    let (head_dim, rows) = (width / (3 * heads), if text.is_some() { 4 } else { 2 });
    if norms.is_some_and(|n| n.rank() != 2 || n.dims()[0] < rows || n.dims()[1] != head_dim) {
        bail!("joint_qkv: {}: expected norms [{rows}, {head_dim}]", shapes())
    }
    #[cfg(feature = "cuda")]
    if image.device().is_cuda() {
        return crate::cuda::joint_qkv::joint_qkv(image, text, norms, heads, eps);
    }
    let op = JointQkv { heads, eps, has_text: text.is_some() };
    match (text, norms) {
        (Some(text), Some(norms)) => image.apply_op3_no_bwd(text, norms, &op),
        (Some(second), None) | (None, Some(second)) => image.apply_op2_no_bwd(second, &op),
        (None, None) => image.apply_op1_no_bwd(&op),
    }
}

struct JointQkv {
    heads: usize,
    eps: f64,
    /// Of two tensors, whether the second is the text (else the norms).
    has_text: bool,
}

type Input<'a> = (&'a CpuStorage, &'a Layout);

impl CustomOp1 for JointQkv {
    fn name(&self) -> &'static str {
        "joint_qkv"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!("joint_qkv", x, forward(self, (x, xl), None, None))
    }
}

impl CustomOp2 for JointQkv {
    fn name(&self) -> &'static str {
        "joint_qkv"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        s: &CpuStorage,
        sl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let second = Some((s, sl));
        let (text, norms) = if self.has_text { (second, None) } else { (None, second) };
        by_dtype!("joint_qkv", x, forward(self, (x, xl), text, norms))
    }
}

impl CustomOp3 for JointQkv {
    fn name(&self) -> &'static str {
        "joint_qkv"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        t: &CpuStorage,
        tl: &Layout,
        n: &CpuStorage,
        nl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!("joint_qkv", x, forward(self, (x, xl), Some((t, tl)), Some((n, nl))))
    }
}

fn forward<T: Element>(
    op: &JointQkv,
    (image, il): Input<'_>,
    text: Option<Input<'_>>,
    norms: Option<Input<'_>>,
) -> Result<(CpuStorage, Shape)> {
    let image = Rows::<T>::new("joint_qkv", image, il)?;
    let text = text.map(|(t, tl)| Rows::<T>::new("joint_qkv", t, tl)).transpose()?;
    let (width, head_dim) = (image.width, image.width / (3 * op.heads));
    let norms = match norms {
        None => None,
        Some((n, nl)) => {
            let mut rows = vec![0f32; nl.shape().elem_count()];
            T::load(contiguous("joint_qkv", n, nl)?, &mut rows);
            Some(rows)
        }
    };
    let seq = image.rows + text.map_or(0, |t| t.rows);
    let shape = Shape::from((image.batch, seq, 3, op.heads, head_dim));
    let mut out = T::zeros(image.batch * seq * width);
    let task_rows = (ROWS_TASK_ELEMENTS / width.max(1)).max(1);
    out.par_chunks_mut((task_rows * width).max(1)).enumerate().for_each_init(
        || (Vec::new(), Vec::new()),
        |scratch, (task, out)| {
            for (i, out) in out.chunks_mut(width).enumerate() {
                let (batch, token) = ((task * task_rows + i) / seq, (task * task_rows + i) % seq);
                let (source, first_norm) = match text {
                    Some(text) if token >= image.rows => (text.row(batch, token - image.rows), 2),
                    _ => (image.row(batch, token), 0),
                };
                match &norms {
                    None => out.copy_from_slice(source),
                    Some(norms) => {
                        let pair = &norms[first_norm * head_dim..][..2 * head_dim];
                        normalise_token(source, pair, op.eps, out, scratch);
                    }
                }
            }
        },
    );
    Ok((T::to_cpu_storage_owned(out), shape))
}

/// RMS-normalises the q and k heads of a token `[3, H, Dh]` by `norms` `[2, Dh]` and copies its v.
fn normalise_token<T: Element>(
    source: &[T],
    norms: &[f32],
    eps: f64,
    out: &mut [T],
    (widened, result): &mut (Vec<f32>, Vec<f32>),
) {
    let (third, head_dim) = (source.len() / 3, norms.len() / 2);
    for (part, norm) in norms.chunks(head_dim).enumerate() {
        let heads = source[part * third..][..third].chunks(head_dim);
        for (head, out) in heads.zip(out[part * third..].chunks_mut(head_dim)) {
            let head = T::as_f32(head, widened);
            T::write(out, result, |out| rms(head, norm, eps, out));
        }
    }
    out[2 * third..].copy_from_slice(&source[2 * third..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{f64s, max_abs, max_error, normal, same_on_any_pool};
    use candle_core::{D, DType};

    /// Plain candle in the type of `image`.
    fn plain(image: &Tensor, text: Option<&Tensor>, norms: Option<&Tensor>, heads: usize) -> Result<Tensor> {
        let stream = |x: &Tensor, first: usize| -> Result<Tensor> {
            let (batch, seq, width) = x.dims3()?;
            let x = x.reshape((batch, seq, 3, heads, width / (3 * heads)))?;
            let Some(norms) = norms else { return Ok(x) };
            let part = |i: usize| -> Result<Tensor> {
                let part = x.narrow(2, i, 1)?;
                if i == 2 {
                    return Ok(part);
                }
                let scale = (part.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?;
                part.broadcast_div(&scale)?.broadcast_mul(&norms.get(first + i)?)
            };
            Tensor::cat(&[part(0)?, part(1)?, part(2)?], 2)
        };
        match text {
            Some(text) => Tensor::cat(&[stream(image, 0)?, stream(text, 2)?], 1),
            None => stream(image, 0),
        }
    }

    /// (B, Li, Lt, H, Dh)
    const CASES: [(usize, usize, usize, usize, usize); 4] =
        [(2, 333, 77, 4, 64), (1, 1, 7, 2, 8), (3, 7, 1, 5, 24), (1, 100, 154, 3, 13)];

    #[test]
    fn agrees_with_f64_and_beats_plain_bf16() -> Result<()> {
        for (b, li, lt, h, dh) in CASES {
            for (dtype, with_text, with_norms) in [DType::F32, DType::BF16]
                .into_iter()
                .flat_map(|t| [(t, true, true), (t, false, true), (t, true, false), (t, false, false)])
            {
                let of = |dims: &[usize], seed| normal(dims, seed).to_dtype(dtype);
                let (image, text) = (of(&[b, li, 3 * h * dh], 1)?, of(&[b, lt, 3 * h * dh], 2)?);
                let norms = of(&[if with_text { 4 } else { 2 }, dh], 3)?;
                let (text, norms) = (with_text.then_some(&text), with_norms.then_some(&norms));
                let ours = joint_qkv(&image, text, norms, h, 1e-6)?;
                assert_eq!(ours.dims(), [b, li + text.map_or(0, |_| lt), 3, h, dh]);
                let wide = |t: &Tensor| t.to_dtype(DType::F64);
                let (text64, norms64) = (text.map(wide).transpose()?, norms.map(wide).transpose()?);
                let exact = f64s(&plain(&wide(&image)?, text64.as_ref(), norms64.as_ref(), h)?)?;
                let ours = max_error(&f64s(&ours)?, &exact);
                let plain = max_error(&f64s(&plain(&image, text, norms, h)?)?, &exact);
                // A copy is exact; else three f32 steps, or one bf16 rounding (half of 2^-7) after them.
                let steps = if dtype == DType::F32 { 4.0 * f64::from(f32::EPSILON) } else { 0.51 / 128.0 };
                let bound = if with_norms { max_abs(&exact) * steps } else { 0.0 };
                assert!(ours <= bound, "{:?} {dtype:?}: {ours:e} > {bound:e}", (b, li, lt, h, dh));
                assert!(dtype == DType::F32 || ours <= 2.0 * plain, "{dtype:?}: {ours:e} against {plain:e}");
            }
        }
        Ok(())
    }

    #[test]
    fn views_threads_and_nan() -> Result<()> {
        let (joint, norms) = (normal(&[2, 90, 3 * 2 * 16], 1), normal(&[4, 16], 2));
        let (image, text) = (joint.narrow(1, 0, 70)?, joint.narrow(1, 70, 20)?);
        let run = |image: &Tensor, text: &Tensor| joint_qkv(image, Some(text), Some(&norms), 2, 1e-6);
        let copied = run(&image.contiguous()?, &text.contiguous()?)?;
        assert_eq!(f64s(&run(&image, &text)?)?, f64s(&copied)?);
        same_on_any_pool(|| run(&image, &text))?;
        let mut data = f64s(&joint)?;
        data[96 * 5 + 17] = f64::NAN; // token 5, q of head 1
        let joint = Tensor::from_vec(data, joint.dims(), joint.device())?.to_dtype(DType::F32)?;
        let y = f64s(&joint_qkv(&joint, None, Some(&norms), 2, 1e-6)?)?;
        assert!(y.iter().enumerate().all(|(i, v)| v.is_nan() == (96 * 5 + 16..96 * 5 + 32).contains(&i)));
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_refused_with_their_shapes() {
        let (image, text) = (normal(&[1, 4, 48], 1), normal(&[1, 3, 47], 1));
        let error = joint_qkv(&image, Some(&text), None, 2, 1e-6).expect_err("47 != 48").to_string();
        assert!(error.contains("[1, 4, 48]") && error.contains("[1, 3, 47]"), "{error}");
        assert!(joint_qkv(&image, None, None, 5, 1e-6).is_err());
        let error = joint_qkv(&image, Some(&image), Some(&normal(&[2, 8], 1)), 2, 1e-6).expect_err("4 norms");
        assert!(error.to_string().contains("[2, 8]"), "{error}");
    }
}
