//! Softmax attention over all keys, in blocks of queries and keys (FlashAttention): no L x L matrix exists.
//!
//! Queries run along the vector lanes: for 64 queries, `S^T = K Q^T` and `O^T += V^T P^T` are both
//! products of broadcast rows of k or v with a panel of 64 columns, so neither k nor v needs packing, and
//! the running maximum and sum of the softmax are plain vectors without a reduction across lanes.

use crate::cpu::element::Element;
use crate::cpu::panel::{ByDepth, ByRow, PANEL, Packed, multiply, transpose};
use crate::cpu::view::{Tile, contiguous, tiles};
use crate::cpu::{by_dtype, math, vectorized};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `softmax(q k^T / sqrt(Dh)) v` for each head, every token attending to all.
///
/// `qkv`: `[B, L, 3, H, Dh]` f32|bf16, contiguous. Returns `[B, L, H * Dh]`.
pub fn attention(qkv: &Tensor) -> Result<Tensor> {
    match qkv.dims() {
        &[_, _, 3, _, dh] if dh > 0 => qkv.apply_op1_no_bwd(&Attention),
        dims => bail!("attention: expected qkv [B, L, 3, H, Dh], got {dims:?}"),
    }
}

struct Attention;

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!("attention", qkv, forward(qkv, layout))
    }
}

/// Keys of a block: their scores for 64 queries and one head's output stay in the first-level cache.
const BLOCK_KEYS: usize = 128;

/// Queries of a task, which share each block of k and v: four panels, fewer where heads are wide.
fn task_queries(head_dim: usize) -> usize {
    if head_dim <= 128 { 4 * PANEL } else { 2 * PANEL }
}

fn forward<T: Element>(qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
    let &[batch, seq, _, heads, head_dim] = layout.dims() else {
        bail!("attention: expected qkv [B, L, 3, H, Dh], got {:?}", layout.dims())
    };
    let data = contiguous::<T>("attention", qkv, layout)?;
    let qkv = Qkv { data, seq, heads, head_dim };
    let keys_values = qkv.gather_keys_values(batch);
    let mut out = vec![T::zero(); batch * seq * heads * head_dim];
    tiles(&mut out, (seq, heads * head_dim), (task_queries(head_dim), head_dim))
        .into_par_iter()
        .for_each_init(
            || Scratch::new(head_dim),
            |scratch, tile| {
                let head = tile.batch * heads + tile.column / head_dim;
                let (keys, values) =
                    keys_values[head * 2 * seq * head_dim..][..2 * seq * head_dim].split_at(seq * head_dim);
                query_block(qkv, (keys, values), tile, scratch);
            },
        );
    Ok((T::to_cpu_storage_owned(out), Shape::from((batch, seq, heads * head_dim))))
}

/// `[B, L, 3, H, Dh]`
#[derive(Clone, Copy)]
struct Qkv<'a, T> {
    data: &'a [T],
    seq: usize,
    heads: usize,
    head_dim: usize,
}

impl<T: Element> Qkv<'_, T> {
    /// Copies `[rows, Dh]` of q, k or v (`part` 0, 1 or 2) of one head, from token `first` on.
    fn load(&self, part: usize, (batch, head): (usize, usize), first: usize, out: &mut [f32]) {
        for (i, row) in out.chunks_exact_mut(self.head_dim).enumerate() {
            let at = ((batch * self.seq + first + i) * 3 + part) * self.heads + head;
            T::load(&self.data[at * self.head_dim..][..self.head_dim], row);
        }
    }

    /// `[B, H, 2, L, Dh]`: each head's k and v in one piece, since in qkv every row of a head lies on a
    /// memory page of its own and each block of queries would pay for the address translation again.
    fn gather_keys_values(&self, batch: usize) -> Vec<f32> {
        let matrix = self.seq * self.head_dim;
        let mut out = vec![0f32; batch * self.heads * 2 * matrix];
        out.par_chunks_mut(matrix.max(1)).enumerate().for_each(|(i, out)| {
            self.load(1 + i % 2, (i / 2 / self.heads, i / 2 % self.heads), 0, out);
        });
        out
    }
}

struct Scratch {
    panels: Vec<QueryPanel>,
    /// `[BLOCK_KEYS, 64]`: scores, then probabilities
    scores: Vec<f32>,
    /// `[64, Dh]`
    rows: Vec<f32>,
}

impl Scratch {
    fn new(head_dim: usize) -> Self {
        let panels = (0..task_queries(head_dim) / PANEL).map(|_| QueryPanel::new(head_dim)).collect();
        Self { panels, scores: vec![0f32; BLOCK_KEYS * PANEL], rows: vec![0f32; PANEL * head_dim] }
    }
}

/// 64 queries of one head and what they have gathered so far.
struct QueryPanel {
    /// `[Dh, 64]`, scaled by `1 / sqrt(Dh)`
    queries: Vec<f32>,
    /// `[Dh, 64]`: the output before division by the sum of the softmax
    out: Vec<f32>,
    softmax: Softmax,
}

impl QueryPanel {
    fn new(head_dim: usize) -> Self {
        let zeros = || vec![0f32; head_dim * PANEL];
        Self { queries: zeros(), out: zeros(), softmax: Softmax::default() }
    }
}

/// One head's output for a task's queries; keys and values are `[L, Dh]`.
fn query_block<T: Element>(
    qkv: Qkv<'_, T>,
    (keys, values): (&[f32], &[f32]),
    mut tile: Tile<'_, T>,
    s: &mut Scratch,
) {
    let head_dim = qkv.head_dim;
    let at = (tile.batch, tile.column / head_dim);
    let panels = &mut s.panels[..tile.rows.len().div_ceil(PANEL)];
    let scale = 1.0 / (head_dim as f32).sqrt();
    for (i, panel) in panels.iter_mut().enumerate() {
        let lanes = PANEL.min(tile.rows.len() - i * PANEL);
        let rows = &mut s.rows[..lanes * head_dim];
        qkv.load(0, at, tile.row + i * PANEL, rows);
        rows.iter_mut().for_each(|q| *q *= scale);
        transpose(rows, head_dim, (lanes, head_dim), &mut panel.queries, PANEL);
        panel.out.fill(0.0);
        panel.softmax = Softmax::default();
    }
    let block = BLOCK_KEYS * head_dim;
    for (keys, values) in keys.chunks(block).zip(values.chunks(block)) {
        let count = keys.len() / head_dim;
        let (keys, values) =
            (ByRow { data: keys, stride: head_dim }, ByDepth { data: values, stride: head_dim });
        for panel in panels.iter_mut() {
            let scores = &mut s.scores[..count * PANEL];
            multiply((keys, count), Packed::<PANEL>(&panel.queries), head_dim, scores, false);
            update(&mut panel.softmax, scores, &mut panel.out);
            multiply((values, head_dim), Packed::<PANEL>(scores), count, &mut panel.out, true);
        }
    }
    for (panel, lines) in panels.iter().zip(tile.rows.chunks_mut(PANEL)) {
        transpose(&panel.out, PANEL, (head_dim, lines.len()), &mut s.rows, head_dim);
        for ((line, row), sum) in lines.iter_mut().zip(s.rows.chunks_mut(head_dim)).zip(panel.softmax.sum) {
            row.iter_mut().for_each(|v| *v /= sum);
            T::store(row, line);
        }
    }
}

/// The online softmax of 64 queries.
struct Softmax {
    max: [f32; PANEL],
    sum: [f32; PANEL],
}

impl Default for Softmax {
    fn default() -> Self {
        Self { max: [f32::NEG_INFINITY; PANEL], sum: [0.0; PANEL] }
    }
}

vectorized! {
    /// Turns `scores` `[keys, 64]` into `exp(score - max)`, and scales `out` `[Dh, 64]` to the new maximum.
    ///
    /// A NaN score never becomes the maximum but makes its own column's sum, hence output, NaN.
    fn update<'a>(softmax: &'a mut Softmax, scores: &'a mut [f32], out: &'a mut [f32]) {
        let (rows, _) = scores.as_chunks_mut::<PANEL>();
        let mut max = softmax.max;
        for row in rows.iter() {
            for (m, s) in max.iter_mut().zip(row) {
                *m = if *s > *m { *s } else { *m };
            }
        }
        // While every score so far is -inf, nothing may be subtracted: -inf - -inf is NaN.
        let mut shift = max;
        for shift in &mut shift {
            *shift = if *shift == f32::NEG_INFINITY { 0.0 } else { *shift };
        }
        let mut decay = [0f32; PANEL];
        for ((d, old), new) in decay.iter_mut().zip(&softmax.max).zip(&shift) {
            *d = math::exp(old - new);
        }
        let mut sum = [0f32; PANEL];
        for row in rows.iter_mut() {
            for ((s, shift), sum) in row.iter_mut().zip(&shift).zip(&mut sum) {
                *s = math::exp(*s - shift);
                *sum += *s;
            }
        }
        for ((total, decay), sum) in softmax.sum.iter_mut().zip(&decay).zip(&sum) {
            *total = total.mul_add(*decay, *sum);
        }
        if max != softmax.max {
            for row in out.as_chunks_mut::<PANEL>().0 {
                for (o, d) in row.iter_mut().zip(&decay) {
                    *o *= d;
                }
            }
        }
        softmax.max = max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{f64s, max_abs, max_error, normal, same_on_any_pool};
    use candle_core::{D, DType, Device};

    /// Plain candle in the type of `qkv`: three matrices of heads, the scores in full.
    fn plain(qkv: &Tensor) -> Result<Tensor> {
        let (batch, seq, _, heads, dh) = qkv.dims5()?;
        let part = |i| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scores = (q.matmul(&k.t()?)? * (1.0 / (dh as f64).sqrt()))?;
        let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let probabilities = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
        probabilities.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((batch, seq, heads * dh))
    }

    fn exact(qkv: &Tensor) -> Result<Vec<f64>> {
        f64s(&plain(&qkv.to_dtype(DType::F64)?)?)
    }

    /// (B, L, H, Dh): heads of the transformer, of the VAE, of the tiny test models; ragged lengths
    /// around the blocks of 64 queries and 128 keys.
    const CASES: [(usize, usize, usize, usize); 10] = [
        (1, 1, 1, 8),
        (2, 7, 3, 24),
        (2, 333, 4, 64),
        (1, 128, 2, 64),
        (1, 129, 1, 64),
        (1, 200, 1, 512),
        (3, 65, 2, 8),
        (1, 64, 1, 1),
        (1, 300, 5, 13),
        (1, 1000, 1, 64),
    ];

    /// An output is a mean of v weighted by exp(score): a score of magnitude S carries S * eps * a few
    /// (its own sum of Dh products), and so does the result, relative to |v|.
    fn bound(qkv: &Tensor) -> Result<f64> {
        let (_, _, _, _, dh) = qkv.dims5()?;
        let largest = max_abs(&f64s(&qkv.narrow(2, 0, 2)?)?);
        let v = max_abs(&f64s(&qkv.narrow(2, 2, 1)?)?);
        let score = largest * largest * (dh as f64).sqrt();
        Ok(f64::from(f32::EPSILON) * v * (8.0 + score))
    }

    #[test]
    fn f32_agrees_with_f64() -> Result<()> {
        for (b, l, h, dh) in CASES {
            let qkv = normal(&[b, l, 3, h, dh], 7);
            let ours = attention(&qkv)?;
            assert_eq!(ours.dims(), [b, l, h * dh]);
            let error = max_error(&f64s(&ours)?, &exact(&qkv)?);
            assert!(error <= bound(&qkv)?, "{:?}: {error:e} > {:e}", (b, l, h, dh), bound(&qkv)?);
        }
        Ok(())
    }

    /// Scores in the hundreds: the softmax is nearly one-hot and naive exp would overflow.
    #[test]
    fn large_scores() -> Result<()> {
        let qkv = (normal(&[1, 150, 3, 2, 64], 8) * 8.0)?;
        let error = max_error(&f64s(&attention(&qkv)?)?, &exact(&qkv)?);
        assert!(error <= bound(&qkv)?, "{error:e} > {:e}", bound(&qkv)?);
        Ok(())
    }

    #[test]
    fn bf16_is_no_worse_than_twice_plain() -> Result<()> {
        for (b, l, h, dh) in CASES {
            let qkv = normal(&[b, l, 3, h, dh], 9).to_dtype(DType::BF16)?;
            let exact = exact(&qkv)?;
            let (ours, plain) = (f64s(&attention(&qkv)?)?, f64s(&plain(&qkv)?)?);
            let (ours, plain) = (max_error(&ours, &exact), max_error(&plain, &exact));
            // Half a bf16 step of the largest result, should plain candle be lucky.
            let atol = max_abs(&exact) / 512.0;
            assert!(ours <= 2.0 * plain + atol, "{:?}: {ours:e} against {plain:e}", (b, l, h, dh));
        }
        Ok(())
    }

    #[test]
    fn bits_do_not_depend_on_batch_or_threads() -> Result<()> {
        let qkv = normal(&[3, 150, 3, 2, 24], 10);
        let all = attention(&qkv)?;
        assert_eq!(f64s(&all.narrow(0, 2, 1)?)?, f64s(&attention(&qkv.narrow(0, 2, 1)?)?)?);
        same_on_any_pool(|| attention(&qkv))
    }

    /// `[1, L, 3, 1, 8]` of ones with one element replaced.
    fn ones_but(seq: usize, (token, part): (usize, usize), value: f32) -> Result<Tensor> {
        let mut data = vec![1f32; seq * 24];
        data[token * 24 + part * 8 + 3] = value;
        Tensor::from_vec(data, (1, seq, 3, 1, 8), &Device::Cpu)
    }

    #[test]
    fn nan_reaches_what_it_must_and_nothing_else() -> Result<()> {
        let seq = 140;
        let nan_of = |part| -> Result<Vec<bool>> {
            Ok(f64s(&attention(&ones_but(seq, (135, part), f32::NAN)?)?)?
                .iter()
                .map(|v| v.is_nan())
                .collect())
        };
        let (query, key, value) = (nan_of(0)?, nan_of(1)?, nan_of(2)?);
        for i in 0..seq * 8 {
            assert_eq!(query[i], i / 8 == 135, "a NaN query is its own row's only");
            assert!(key[i], "a NaN key is everyone's");
            assert_eq!(value[i], i % 8 == 3, "a NaN value is everyone's in its channel");
        }
        Ok(())
    }

    #[test]
    fn infinity_behaves_as_in_a_plain_softmax() -> Result<()> {
        // A key of -inf is ignored, even where a whole first block of keys is; one of +inf gives inf - inf.
        let ignored = attention(&ones_but(140, (3, 1), f32::NEG_INFINITY)?)?;
        assert!(f64s(&ignored)?.iter().all(|v| (v - 1.0).abs() < 1e-6));
        let mut data = vec![1f32; 140 * 24];
        (0..128).for_each(|token| data[token * 24 + 8] = f32::NEG_INFINITY);
        let block = Tensor::from_vec(data, (1, 140, 3, 1, 8), &Device::Cpu)?;
        assert!(f64s(&attention(&block)?)?.iter().all(|v| (v - 1.0).abs() < 1e-6));
        assert!(f64s(&attention(&ones_but(140, (3, 1), f32::INFINITY)?)?)?.iter().all(|v| v.is_nan()));
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_refused_with_their_shapes() {
        let error = attention(&normal(&[1, 4, 2, 1, 8], 1)).expect_err("no v").to_string();
        assert!(error.contains("[1, 4, 2, 1, 8]"), "{error}");
        assert!(attention(&normal(&[4, 3, 8], 1)).is_err());
    }
}
