//! The same by the products of [`crate::cpu::blocks`]: `S^T = K Q^T`, then `O^T += V^T P^T`, with keys and values packed once
//! for all queries, and the probabilities packed as they are made.

use super::{BLOCK_KEYS, Qkv, Softmax, task_queries, update};
use crate::cpu::blocks::{COLUMNS, DEPTH, Instructions, LeftBlocks, Multiplier, ROWS, Right};
use crate::cpu::blocks::{pack_panel, panel, panel_len, panel_steps};
use crate::cpu::element::Element;
use crate::cpu::panel::PANEL;
use crate::cpu::transpose::transpose;
use crate::cpu::view::{Tile, tiles};
use rayon::prelude::*;

/// `[B, L, H * Dh]`
pub(super) fn forward<T: Element>(instructions: Instructions, qkv: Qkv<'_, T>, batch: usize) -> Vec<T> {
    let Qkv { seq, heads, head_dim, .. } = qkv;
    let keys_values: Vec<KeysValues> =
        (0..batch * heads).into_par_iter().map(|i| KeysValues::pack(qkv, (i / heads, i % heads))).collect();
    let mut out = T::zeros(batch * seq * heads * head_dim);
    tiles(&mut out, (seq, heads * head_dim), (task_queries(head_dim), head_dim))
        .into_par_iter()
        .for_each_init(
            || Scratch::new(head_dim),
            |scratch, tile| {
                let multiplier = Multiplier::new(instructions);
                let head = tile.batch * heads + tile.column / head_dim;
                query_block(&multiplier, qkv, &keys_values[head], tile, scratch);
            },
        );
    out
}

/// One head's `[L, Dh]` of k, and `[Dh, L]` of v.
struct KeysValues {
    keys: LeftBlocks,
    values: LeftBlocks,
}

impl KeysValues {
    fn pack<T: Element>(qkv: Qkv<'_, T>, head: (usize, usize)) -> Self {
        let (seq, head_dim) = (qkv.seq, qkv.head_dim);
        let keys = LeftBlocks::pack((seq, head_dim), |token| qkv.row(1, head, token));
        let mut rows = vec![0f32; seq * head_dim];
        qkv.load(2, head, 0, &mut rows);
        let mut turned = vec![0f32; rows.len()];
        transpose(&rows, head_dim, (seq, head_dim), &mut turned, seq);
        let mut values = T::zeros(rows.len());
        T::store(&turned, &mut values);
        Self { keys, values: LeftBlocks::pack((head_dim, seq), |d| &values[d * seq..][..seq]) }
    }
}

struct Scratch {
    panels: Vec<QueryPanel>,
    /// `[BLOCK_KEYS, 64]`: scores, then probabilities
    scores: Vec<f32>,
    /// `[BLOCK_KEYS / 2, 64]`: pairs of probabilities
    probabilities: Vec<u32>,
    /// `[64, Dh]`
    rows: Vec<f32>,
    /// Where blocks of the depth begin in a packed panel of queries
    query_steps: Vec<usize>,
    /// The same in `probabilities`
    key_steps: Vec<usize>,
}

/// 64 queries of one head and what they have gathered so far.
struct QueryPanel {
    /// Two packed panels of the depth `Dh`
    queries: Vec<u32>,
    /// `[Dh, 64]`, rows a multiple of 16: the output before division by the sum of the softmax
    out: Vec<f32>,
    softmax: Softmax,
}

impl Scratch {
    fn new(head_dim: usize) -> Self {
        let panel = || QueryPanel {
            queries: vec![0; PANEL / COLUMNS * panel_len(head_dim)],
            out: vec![0.0; head_dim.next_multiple_of(ROWS) * PANEL],
            softmax: Softmax::default(),
        };
        Self {
            panels: (0..task_queries(head_dim) / PANEL).map(|_| panel()).collect(),
            scores: vec![0.0; BLOCK_KEYS * PANEL],
            probabilities: vec![0; BLOCK_KEYS / 2 * PANEL],
            rows: vec![0.0; PANEL * head_dim],
            query_steps: panel_steps(head_dim),
            key_steps: (0..BLOCK_KEYS / DEPTH).map(|k| k * DEPTH / 2 * PANEL).collect(),
        }
    }
}

/// One head's output for a task's queries.
fn query_block<T: Element>(
    multiplier: &Multiplier,
    qkv: Qkv<'_, T>,
    head: &KeysValues,
    mut tile: Tile<'_, T>,
    s: &mut Scratch,
) {
    let (seq, head_dim) = (qkv.seq, qkv.head_dim);
    let at = (tile.batch, tile.column / head_dim);
    let queries = tile.rows.len();
    let mut panels = std::mem::take(&mut s.panels);
    let used = &mut panels[..queries.div_ceil(PANEL)];
    for (i, panel) in used.iter_mut().enumerate() {
        for (j, out) in panel.queries.chunks_mut(panel_len(head_dim)).enumerate() {
            let first = i * PANEL + j * COLUMNS;
            let columns = COLUMNS.min(queries.saturating_sub(first));
            pack_panel((columns, head_dim), |c| qkv.row(0, at, tile.row + first + c), out);
        }
        panel.out.fill(0.0);
        panel.softmax = Softmax::default();
    }
    for key in (0..seq).step_by(BLOCK_KEYS) {
        for (i, panel) in used.iter_mut().enumerate() {
            let count = BLOCK_KEYS.min(seq - key);
            score(multiplier, head, (key, count), head_dim, panel, s);
            qkv.add_bias(at.1, (tile.row, queries, i), key, &mut s.scores[..count * PANEL]);
            update(&mut panel.softmax, &mut s.scores[..count * PANEL], qkv.scale, &mut panel.out);
            add_values(multiplier, head, (key, count), head_dim, panel, s);
        }
    }
    for (panel, lines) in used.iter().zip(tile.rows.chunks_mut(PANEL)) {
        transpose(&panel.out, PANEL, (head_dim, lines.len()), &mut s.rows, head_dim);
        for ((line, row), sum) in lines.iter_mut().zip(s.rows.chunks_mut(head_dim)).zip(panel.softmax.sum) {
            row.iter_mut().for_each(|v| *v /= sum);
            T::store(row, line);
        }
    }
    s.panels = panels;
}

/// The scores of `(first key, keys)` for 64 queries.
fn score(
    multiplier: &Multiplier,
    head: &KeysValues,
    (first, count): (usize, usize),
    head_dim: usize,
    queries: &QueryPanel,
    s: &mut Scratch,
) {
    let keys = head.keys.at((first, count.div_ceil(ROWS)), 0);
    for (i, packed) in queries.queries.chunks(panel_len(head_dim)).enumerate() {
        let scores = &mut s.scores[i * COLUMNS..];
        multiplier.multiply(keys, panel(packed, &s.query_steps), scores, PANEL, false);
    }
}

/// Adds the values of `(first key, keys)`, by their probabilities, to the output of 64 queries.
fn add_values(
    multiplier: &Multiplier,
    head: &KeysValues,
    (first, count): (usize, usize),
    head_dim: usize,
    queries: &mut QueryPanel,
    s: &mut Scratch,
) {
    s.scores[count * PANEL..].fill(0.0);
    let blocks = count.div_ceil(DEPTH);
    for (i, rows) in s.scores[..blocks * DEPTH * PANEL].chunks(2 * PANEL).enumerate() {
        let (a, b) = rows.split_at(PANEL);
        f32::pair(a, b, &mut s.probabilities[i * PANEL..][..PANEL]);
    }
    let values = head.values.at((0, head_dim.div_ceil(ROWS)), first / DEPTH);
    for column in (0..PANEL).step_by(COLUMNS) {
        let probabilities =
            Right { data: &s.probabilities[column..], steps: &s.key_steps[..blocks], line_stride: PANEL };
        multiplier.multiply(values, probabilities, &mut queries.out[column..], PANEL, true);
    }
}
