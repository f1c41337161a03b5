//! `torch.randn` on the CPU, so that a seed generates here what it generates in diffusers.

use rand_mt::Mt;

/// Fills `count` normal deviates as `torch.randn(count, generator=torch.Generator().manual_seed(seed))` does
/// for contiguous f32 (`aten/src/ATen/native/cpu/DistributionTemplates.h`, `normal_fill`).
///
/// Several draws from one generator continue its stream; torch draws a batch in one call, so a batch is one fill.
/// Agrees with torch to 1e-6: the transcendental functions are the only difference.
pub(crate) struct Generator {
    mt: Mt,
}

/// torch fills blocks of this many values; shorter tensors take another path there.
const BLOCK: usize = 16;

impl Generator {
    /// torch initialises MT19937 with the low 32 bits of the seed in two's complement.
    pub(crate) fn new(seed: i64) -> Self {
        Self { mt: Mt::new(seed as u32) }
    }

    /// `count` standard normal values. torch draws fewer than 16 by another rule, which no image needs.
    pub(crate) fn normal(&mut self, count: usize) -> Vec<f32> {
        assert!(count >= BLOCK, "latents of an image have at least {BLOCK} values");
        let mut data: Vec<f32> = (0..count).map(|_| self.uniform()).collect();
        for block in data.chunks_exact_mut(BLOCK) {
            box_muller(block);
        }
        if !count.is_multiple_of(BLOCK) {
            let tail = &mut data[count - BLOCK..];
            tail.fill_with(|| self.uniform());
            box_muller(tail);
        }
        data
    }

    /// 24 bits in [0, 1).
    fn uniform(&mut self) -> f32 {
        (self.mt.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }
}

/// 16 uniforms to 16 normals: the first half gives radii, the second half angles.
fn box_muller(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let radius = (-2.0 * (1.0 - *a).ln()).sqrt();
        let angle = 2.0 * std::f32::consts::PI * *b;
        (*a, *b) = (radius * angle.cos(), radius * angle.sin());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    /// ln, sin and cos differ from torch's vectorised ones in the last bit or two of numbers up to about 5.
    const TOLERANCE: f32 = 2e-6;

    #[test]
    fn draws_equal_torch() {
        let mut checked = 0;
        for case in golden::json("noise.json").as_array().expect("cases") {
            let mut generator = Generator::new(case["seed"].as_i64().expect("a seed"));
            for draw in case["draws"].as_array().expect("draws") {
                let count = golden::floats(&draw["shape"]).iter().product::<f32>() as usize;
                if count < BLOCK {
                    break;
                }
                let ours = generator.normal(count);
                let (first, last) = (golden::floats(&draw["first"]), golden::floats(&draw["last"]));
                let ends = ours.iter().zip(&first).chain(ours.iter().rev().zip(last.iter().rev()));
                for (ours, theirs) in ends {
                    assert!((ours - theirs).abs() < TOLERANCE, "{ours} is not {theirs} in {case}");
                }
                let sum: f64 = ours.iter().map(|x| f64::from(x.abs())).sum();
                let theirs = draw["sum_abs"].as_f64().expect("a sum");
                assert!((sum / theirs - 1.0).abs() < 1e-5, "the middle differs in {case}");
                checked += 1;
            }
        }
        assert!(checked >= 20, "only {checked} draws checked");
    }
}
