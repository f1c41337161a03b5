//! Attention by every kernel that the card can run.

use super::*;
use cuda::attention::{Kernel, attention};

/// The definition in candle's f32, a head of a batch element at a time: all scores at once would take 6 GB.
fn definition(qkv: &Tensor) -> Result<Tensor> {
    let (batch, length, _, heads, dim) = qkv.dims5()?;
    let mut elements = Vec::new();
    for element in 0..batch {
        let mut outputs = Vec::new();
        for head in 0..heads {
            let part = |i: usize| wide(&qkv.get(element)?.narrow(2, head, 1)?.get_on_dim(1, i)?.squeeze(1)?);
            let scores = (part(0)?.matmul(&part(1)?.t()?)? / (dim as f64).sqrt())?;
            let weights = scores.broadcast_sub(&scores.max_keepdim(1)?)?.exp()?;
            let sums = weights.sum_keepdim(1)?;
            outputs.push(weights.matmul(&part(2)?)?.broadcast_div(&sums)?);
        }
        elements.push(Tensor::cat(&outputs, 1)?);
    }
    Tensor::stack(&elements, 0)?.reshape((batch, length, heads * dim))
}

/// `[B, L, H, Dh]`. Large's longest prompt gives Hopper's kernel 25 tiles of 192 queries for each of 76 heads, so the
/// persistent loop of a block runs 14 times on 132 multiprocessors.
fn cases() -> Vec<[usize; 4]> {
    let mut cases: Vec<_> = sizes().iter().map(|of| [BATCH, of.length(), of.heads, HEAD]).collect();
    // Medium's second attention, which sees the image alone, and the one of the VAE.
    cases.extend(if small() {
        [[BATCH, 128, 3, HEAD], [1, 70, 1, 512]]
    } else {
        [[BATCH, 4096, 24, HEAD], [1, 16384, 1, 512]]
    });
    cases
}

/// Queries, keys and values, the queries `sharp` times as large: scores of that deviation.
fn inputs(device: &Device, [batch, length, heads, dim]: [usize; 4], sharp: f64) -> Result<Tensor> {
    let part = |deviation| normal(device, &[batch, length, 1, heads, dim], deviation);
    Tensor::cat(&[part(sharp)?, part(1.0)?, part(1.0)?], 2)
}

/// The kernel without tensor cores in f32, which is what the others are compared with. f32 rounds a score by some 2^-24
/// of itself in each of its steps, and a probability by as much; sums over all keys average that.
fn reference(what: &str, qkv: &Tensor, sharp: f64) -> Result<Tensor> {
    let qkv = wide(qkv)?;
    let ours = cuda::poisoned(|| Kernel::Portable.attention(&qkv))?;
    let bound = F32 * sharp;
    Off::new(&ours, &definition(&qkv)?, qkv.dim(4)?)?.judge(
        &format!("{what} Portable f32"),
        bound,
        8.0 * bound,
    );
    Ok(ours)
}

/// In bf16 a result is rounded once, and tensor cores take probabilities that were rounded once: two independent errors,
/// or in a row both at their worst.
fn judge(what: &str, kernel: Kernel, qkv: &Tensor, exact: &Tensor) -> Result<Tensor> {
    let ours = cuda::poisoned(|| kernel.attention(qkv))?;
    let off = Off::new(&ours, exact, qkv.dim(4)?)?;
    off.judge(&format!("{what} {kernel:?} bf16"), 2f64.sqrt() * MEAN * BF16, 2.0 * BF16);
    Ok(ours)
}

#[test]
fn every_kernel_agrees_with_the_portable_one_in_f32() -> Result<()> {
    let device = gpu();
    for case in cases() {
        // The softmax of sharp scores has few large terms, and its maximum grows at more of the tiles.
        for sharp in [1.0, 6.0] {
            let what = format!("attention {case:?}, scores of {sharp},");
            let qkv = inputs(&device, case, sharp)?;
            let exact = reference(&what, &qkv, sharp)?;
            let mut results = Vec::new();
            for kernel in Kernel::ALL {
                if kernel.takes(&qkv)? {
                    results.push(judge(&what, kernel, &qkv, &exact)?);
                } else {
                    println!("{what} {kernel:?} bf16: LEFT OUT, this card does not run it");
                }
            }
            let chosen = Off::new(&attention(&qkv)?, &wide(&results[0])?, case[3])?;
            assert_eq!(chosen.whole, 0.0, "{what} the first that the card runs is not what is chosen");
        }
    }
    Ok(())
}
