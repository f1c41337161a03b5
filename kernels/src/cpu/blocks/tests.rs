//! Products by every set of instructions that the machine has, against f64.

use super::*;
use half::bf16;

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    (0..n as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
}

fn rounded(n: usize, seed: u32) -> Vec<bf16> {
    numbers(n, seed).into_iter().map(bf16::from_f32).collect()
}

/// Those that this processor has; none where it has neither.
fn all() -> Vec<Instructions> {
    let isa = Isa::in_use();
    let mut all = Vec::new();
    all.extend((isa >= Isa::Avx512Bf16).then_some(Instructions::Avx512Bf16));
    all.extend((isa >= Isa::Amx).then_some(Instructions::Amx));
    all
}

/// `[rows, depth]` times 32 columns `[32, depth]`, `cut` blocks of the depth at a time, on top of `start`.
fn product(
    instructions: Instructions,
    (rows, depth, cut): (usize, usize, usize),
    (left, right): (&[bf16], &[bf16]),
    start: &[f32],
) -> Vec<f32> {
    let left = LeftBlocks::pack((rows, depth), |row| &left[row * depth..][..depth]);
    let panels = pack_panels((COLUMNS, depth), |column| &right[column * depth..][..depth]);
    let panels = RightPanels::new(&panels, depth);
    let mut acc = start.to_vec();
    let (multiplier, blocks) = (Multiplier::new(instructions), depth.div_ceil(DEPTH));
    for k in (0..blocks).step_by(cut) {
        let right = panels.at(0, k, cut.min(blocks - k));
        multiplier.multiply(left.at((0, rows.div_ceil(ROWS)), k), right, &mut acc, COLUMNS, true);
    }
    acc[..rows * COLUMNS].to_vec()
}

/// The products of bf16 are exact in f32; each addition rounds by half an ulp of a sum that is at most that of the
/// magnitudes, up or down at random. Cutting the depth leaves every bit as it is.
#[test]
fn products_agree_with_f64() {
    for (rows, depth) in [(1, 1), (16, 32), (17, 33), (40, 100), (64, 512)] {
        let (left, right) = (rounded(rows * depth, 1), rounded(COLUMNS * depth, 2));
        let start = numbers(rows.next_multiple_of(ROWS) * COLUMNS, 3);
        for instructions in all() {
            let ours = product(instructions, (rows, depth, usize::MAX), (&left, &right), &start);
            assert_eq!(
                product(instructions, (rows, depth, 3), (&left, &right), &start),
                ours,
                "{instructions:?} cut"
            );
            for (i, (ours, start)) in ours.iter().zip(&start).enumerate() {
                let (left, right) =
                    (&left[i / COLUMNS * depth..][..depth], &right[i % COLUMNS * depth..][..depth]);
                let terms = left.iter().zip(right).map(|(a, b)| a.to_f64() * b.to_f64());
                let (sum, magnitude) = (terms.clone().sum::<f64>(), terms.map(f64::abs).sum::<f64>());
                let (start, roundings) = (f64::from(*start), (depth as f64 + 1.0).sqrt());
                let bound = f64::from(f32::EPSILON) * roundings * (start.abs() + magnitude);
                let error = (f64::from(*ours) - start - sum).abs();
                assert!(error <= bound, "{instructions:?} {rows}x{depth} at {i}: {error:e} > {bound:e}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "right operand")]
fn a_panel_that_is_too_short_is_refused() {
    let left = Left { data: &[0; LEFT_BLOCK], row_blocks: 1, stride: LEFT_BLOCK };
    let right = Right { data: &[0; 511], steps: &[0], line_stride: COLUMNS };
    // Without tiles: the sizes are checked first.
    let multiplier = Multiplier {
        instructions: Instructions::Amx,
        #[cfg(target_arch = "x86_64")]
        _tiles: None,
    };
    multiplier.multiply(left, right, &mut [0.0; 512], COLUMNS, false);
}
