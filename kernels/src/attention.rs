//! Softmax attention over all keys, in blocks of queries and keys (FlashAttention): no L x L matrix exists.
//!
//! Queries run along the vector lanes: for 64 queries, `S^T = K Q^T` and `O^T += V^T P^T` are both
//! products of broadcast rows of k or v with a panel of 64 columns, so neither k nor v needs packing, and
//! the running maximum and sum of the softmax are plain vectors without a reduction across lanes. bf16 goes
//! through `in_blocks.rs` where the processor multiplies it.

mod in_blocks;

use crate::cpu::blocks::Instructions;
use crate::cpu::element::Element;
use crate::cpu::panel::{ByDepth, ByRow, PANEL, Packed, multiply};
use crate::cpu::transpose::transpose;
use crate::cpu::view::{Tile, contiguous, tiles};
use crate::cpu::{by_dtype, math, vectorized};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// `softmax(q k^T / sqrt(Dh)) v` for each head, every token attending to all.
///
/// `qkv`: `[B, L, 3, H, Dh]` f32|bf16, contiguous. Returns `[B, L, H * Dh]`.
///
/// # Errors
/// The shape, layout or type is another; on a GPU also f32 heads of more than 512 elements.
pub fn attention(qkv: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if qkv.device().is_cuda() {
        return crate::cuda::attention::attention(qkv);
    }
    match qkv.dims() {
        &[_, _, 3, _, dh] if dh > 0 => qkv.apply_op1_no_bwd(&Attention { scale: 1.0 / (dh as f32).sqrt() }),
        dims => bail!("attention: expected qkv [B, L, 3, H, Dh], got {dims:?}"),
    }
}

/// `softmax(scale q k^T + bias) v` for each head, on the CPU.
///
/// - `qkv`: `[B, L, 3, H, Dh]` f32|bf16, contiguous
/// - `bias`: `[L, L]` or `[H, L, L]` f32, contiguous: a row for each query; minus infinity where it must not look
///
/// Returns `[B, L, H * Dh]`.
///
/// # Errors
/// A shape, layout, type or the device is another.
pub fn biased_attention(qkv: &Tensor, bias: &Tensor, scale: f32) -> Result<Tensor> {
    let fits = match (qkv.dims(), bias.dims()) {
        (&[_, l, 3, h, dh], &[.., queries, keys]) => {
            let heads = &bias.dims()[..bias.rank() - 2];
            dh > 0 && (queries, keys) == (l, l) && (heads.is_empty() || heads == [h])
        }
        _ => false,
    };
    if !fits || !qkv.device().is_cpu() {
        bail!(
            "biased_attention: qkv {:?}, bias {:?} on {:?}: expected [B, L, 3, H, Dh] and [L, L] or [H, L, L] on the CPU",
            qkv.dims(),
            bias.dims(),
            qkv.device()
        )
    }
    qkv.apply_op2_no_bwd(bias, &Attention { scale })
}

struct Attention {
    scale: f32,
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!("attention", qkv, forward((qkv, layout), self.scale, None))
    }
}

impl CustomOp2 for Attention {
    fn name(&self) -> &'static str {
        "biased_attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let data = contiguous::<f32>("biased_attention", bias, bias_layout)?;
        let bias = Bias { data, by_head: bias_layout.dims().len() == 3 };
        by_dtype!("biased_attention", qkv, forward((qkv, layout), self.scale, Some(bias)))
    }
}

/// Keys of a block: their scores for 64 queries and one head's output stay in the first-level cache.
const BLOCK_KEYS: usize = 128;

/// Queries of a task, which share each block of k and v: four panels, fewer where heads are wide.
fn task_queries(head_dim: usize) -> usize {
    if head_dim <= 128 { 4 * PANEL } else { 2 * PANEL }
}

fn forward<T: Element>(
    (qkv, layout): (&CpuStorage, &Layout),
    scale: f32,
    bias: Option<Bias<'_>>,
) -> Result<(CpuStorage, Shape)> {
    let &[batch, seq, _, heads, head_dim] = layout.dims() else {
        bail!("attention: expected qkv [B, L, 3, H, Dh], got {:?}", layout.dims())
    };
    let data = contiguous::<T>("attention", qkv, layout)?;
    let qkv = Qkv { data, seq, heads, head_dim, scale, bias };
    let shape = Shape::from((batch, seq, heads * head_dim));
    if let Some(instructions) = Instructions::of::<T>() {
        return Ok((T::to_cpu_storage_owned(in_blocks::forward(instructions, qkv, batch)), shape));
    }
    let keys_values = qkv.gather_keys_values(batch);
    let mut out = T::zeros(batch * seq * heads * head_dim);
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
    Ok((T::to_cpu_storage_owned(out), shape))
}

/// `[B, L, 3, H, Dh]`, and what becomes of scores.
#[derive(Clone, Copy)]
struct Qkv<'a, T> {
    data: &'a [T],
    seq: usize,
    heads: usize,
    head_dim: usize,
    scale: f32,
    bias: Option<Bias<'a>>,
}

impl<T: Element> Qkv<'_, T> {
    /// Token `token` of q, k or v (`part` 0, 1 or 2) of one head, `[Dh]`.
    fn row(&self, part: usize, (batch, head): (usize, usize), token: usize) -> &[T] {
        let at = ((batch * self.seq + token) * 3 + part) * self.heads + head;
        &self.data[at * self.head_dim..][..self.head_dim]
    }

    /// Copies `[rows, Dh]` of such tokens, from `first` on.
    fn load(&self, part: usize, head: (usize, usize), first: usize, out: &mut [f32]) {
        for (i, row) in out.chunks_exact_mut(self.head_dim).enumerate() {
            T::load(self.row(part, head, first + i), row);
        }
    }

    /// Adds the bias, in units of the scale, to `scores` `[keys, 64]` of panel `panel` of a task's `queries`, which begin at
    /// `first`, and of the keys from `key` on.
    fn add_bias(
        &self,
        head: usize,
        (first, queries, panel): (usize, usize, usize),
        key: usize,
        scores: &mut [f32],
    ) {
        let Some(bias) = self.bias else { return };
        let head = if bias.by_head { head * self.seq * self.seq } else { 0 };
        let queries = panel * PANEL..queries.min((panel + 1) * PANEL);
        for (k, row) in scores.chunks_mut(PANEL).enumerate() {
            for (score, query) in row.iter_mut().zip(queries.clone()) {
                *score += bias.data[head + (first + query) * self.seq + key + k] / self.scale;
            }
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

/// What is added to scores that are scaled: `[L, L]`, or `[H, L, L]` if `by_head`; a row for each query.
#[derive(Clone, Copy)]
struct Bias<'a> {
    data: &'a [f32],
    by_head: bool,
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
    /// `[Dh, 64]`
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
    let queries = tile.rows.len();
    let panels = &mut s.panels[..queries.div_ceil(PANEL)];
    for (i, panel) in panels.iter_mut().enumerate() {
        let lanes = PANEL.min(tile.rows.len() - i * PANEL);
        let rows = &mut s.rows[..lanes * head_dim];
        qkv.load(0, at, tile.row + i * PANEL, rows);
        transpose(rows, head_dim, (lanes, head_dim), &mut panel.queries, PANEL);
        panel.out.fill(0.0);
        panel.softmax = Softmax::default();
    }
    let block = BLOCK_KEYS * head_dim;
    for (i, (keys, values)) in keys.chunks(block).zip(values.chunks(block)).enumerate() {
        let count = keys.len() / head_dim;
        let (keys, values) =
            (ByRow { data: keys, stride: head_dim }, ByDepth { data: values, stride: head_dim });
        for (j, panel) in panels.iter_mut().enumerate() {
            let scores = &mut s.scores[..count * PANEL];
            multiply((keys, count), Packed::<PANEL>::new(&panel.queries), head_dim, scores, false);
            qkv.add_bias(at.1, (tile.row, queries, j), i * BLOCK_KEYS, scores);
            update(&mut panel.softmax, scores, qkv.scale, &mut panel.out);
            multiply((values, head_dim), Packed::<PANEL>::new(scores), count, &mut panel.out, true);
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

/// The online softmax of 64 queries: the largest score, not scaled, and the sum of the exponentials.
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
    /// Turns `scores` `[keys, 64]` into `exp(scale * (score - max))`, and scales `out` `[Dh, 64]` to the new maximum.
    ///
    /// A NaN score never becomes the maximum but makes its own column's sum, hence output, NaN.
    fn update<'a>(softmax: &'a mut Softmax, scores: &'a mut [f32], scale: f32, out: &'a mut [f32]) {
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
            *d = math::exp(scale * (old - new));
        }
        let mut sum = [0f32; PANEL];
        for row in rows.iter_mut() {
            for ((s, shift), sum) in row.iter_mut().zip(&shift).zip(&mut sum) {
                *s = math::exp(scale * (*s - shift));
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
mod tests;
