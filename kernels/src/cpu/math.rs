//! Scalar functions written so that loops over them vectorise: no calls, no branches, fused multiply-adds.
//!
//! They are `inline(always)` because the vector width is chosen by [`pulp::Arch::dispatch`] around the
//! loop, and only code inlined into it is compiled for that width. `exp` and `erf` are
//! within 2 ulp of the f64 functions (tested).

/// e^x; 0 below -86.9 (a little before f32 turns subnormal), NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    const LN2_HI: f32 = 0.693_359_4; // 10 bits, so that n * LN2_HI is exact
    const LN2_LO: f32 = -2.121_944_4e-4;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LO, n.mul_add(-LN2_HI, x)); // |r| <= ln(2)/2
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let y = p.mul_add(r * r, r) + 1.0;
    // 2^(n-1), and the last doubling apart: n reaches 128 below the overflow of f32.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(126);
    let y = y * f32::from_bits(exponent << 23) * 2.0;
    let y = if x < -86.9 { 0.0 } else { y };
    if x > 88.722_84 { f32::INFINITY } else { y }
}

/// 1 / (1 + e^-x)
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x * sigmoid(x), the activation of diffusion U-Nets, VAEs and time embeddings.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// x * sigmoid(1.702 x), the first CLIP's approximation of GELU.
#[inline(always)]
pub(crate) fn quick_gelu(x: f32) -> f32 {
    x * sigmoid(1.702 * x)
}

/// GELU by tanh: x/2 * (1 + tanh(u)) is x * sigmoid(2u), which does not cancel for negative x.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_2;
    let u = TWICE_SQRT_2_OVER_PI * x * (0.044_715 * x).mul_add(x, 1.0);
    x * sigmoid(u)
}

/// x * Phi(x), with Phi the normal distribution function.
#[inline(always)]
pub(crate) fn gelu_erf(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function: `x + x p(x^2)` for small x, else `1 - e^-q(|x|)`, both polynomials fitted here
/// (minimax by Lawson's iteration) to 2e-8; beyond 4 it is +-1 in f32.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    const SMALL: f32 = 0.93;
    let s = x * x;
    let p = -5.976_890_6e-4f32;
    let p = p.mul_add(s, 4.990_979_6e-3);
    let p = p.mul_add(s, -2.676_556_7e-2);
    let p = p.mul_add(s, 1.128_180_3e-1);
    let p = p.mul_add(s, -3.761_249_4e-1);
    let p = p.mul_add(s, 1.283_791_5e-1);
    let small = p.mul_add(x, x);
    let t = x.abs();
    let t = if t > 4.0 { 4.0 } else { t };
    let q = -1.938_118_6e-4f32;
    let q = q.mul_add(t, 3.022_485_6e-3);
    let q = q.mul_add(t, -2.214_479e-2);
    let q = q.mul_add(t, 1.037_623_6e-1);
    let q = q.mul_add(t, 6.373_737e-1);
    let q = q.mul_add(t, 1.127_562_8);
    let q = q.mul_add(t, 2.227_692_8e-4);
    let large = (1.0 - exp(-q)).copysign(x);
    if t > SMALL { large } else { small }
}

/// The f32 lanes a sum is kept in, and the elements after which they are folded into f64.
const LANES: usize = 32;
const BLOCK: usize = 1024;

/// Sum of `x`, as f64: short f32 sums in many lanes, so that a million elements keep 1e-6.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f64 {
    let mut total = 0f64;
    for block in x.chunks(BLOCK) {
        let mut lanes = [0f32; LANES];
        let (whole, rest) = block.as_chunks::<LANES>();
        for chunk in whole {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane += *v;
            }
        }
        for (lane, v) in lanes.iter_mut().zip(rest) {
            *lane += *v;
        }
        total += fold(&lanes);
    }
    total
}

/// Sum of squared differences from `center`, as f64.
#[inline(always)]
pub(crate) fn sum_sq(x: &[f32], center: f32) -> f64 {
    let mut total = 0f64;
    for block in x.chunks(BLOCK) {
        let mut lanes = [0f32; LANES];
        let (whole, rest) = block.as_chunks::<LANES>();
        for chunk in whole {
            for (lane, v) in lanes.iter_mut().zip(chunk) {
                *lane = (v - center).mul_add(v - center, *lane);
            }
        }
        for (lane, v) in lanes.iter_mut().zip(rest) {
            *lane = (v - center).mul_add(v - center, *lane);
        }
        total += fold(&lanes);
    }
    total
}

#[inline(always)]
fn fold(lanes: &[f32; LANES]) -> f64 {
    let mut total = 0f64;
    for lane in lanes {
        total += f64::from(*lane);
    }
    total
}

/// Mean and sum of squared differences from it, mergeable (Chan et al.) so that memory is read once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moments {
    count: f64,
    mean: f64,
    m2: f64,
}

impl Moments {
    /// Adds `x`; it is read twice, so it should fit in the first-level cache.
    #[inline(always)]
    pub(crate) fn add(&mut self, x: &[f32]) {
        let count = x.len() as f64;
        let mean = sum(x) / count;
        // The center is the f32 nearest to the mean; the correction takes out what that lost.
        let center = mean as f32;
        let shift = mean - f64::from(center);
        let m2 = sum_sq(x, center) - count * shift * shift;
        let delta = mean - self.mean;
        let total = self.count + count;
        self.mean += delta * count / total;
        self.m2 += m2 + delta * delta * self.count * count / total;
        self.count = total;
    }

    /// The mean of everything added.
    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    /// The biased variance of everything added.
    pub(crate) fn variance(&self) -> f64 {
        self.m2.max(0.0) / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ulps(ours: f32, exact: f64) -> f64 {
        let rounded = exact as f32;
        let ulp = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
        (f64::from(ours) - exact).abs() / ulp
    }

    /// 2 ulp: one for the polynomial, one for the reduction of the argument.
    #[test]
    fn exp_is_within_two_ulp() {
        for i in -8_690_000..8_872_000 {
            let x = i as f32 * 1e-5;
            let error = ulps(exp(x), f64::from(x).exp());
            assert!(error <= 2.0, "exp({x}) = {}: {error} ulp", exp(x));
        }
    }

    #[test]
    fn exp_at_the_ends() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    /// 2 ulp: the fit, and one rounding each of the polynomial and the last step.
    #[test]
    fn erf_is_within_two_ulp() {
        for i in -500_000..500_000 {
            let x = i as f32 * 1e-5;
            let error = ulps(erf(x), candle_core::cpu::erf::erf_f64(f64::from(x)));
            assert!(error <= 2.0, "erf({x}) = {}: {error} ulp", erf(x));
        }
        assert!(erf(f32::NAN).is_nan());
    }

    /// 4 ulp of x: `1 + erf` cancels for negative x, so the bound is on the scale of x, as in torch.
    #[test]
    fn activations_follow_their_formulas() {
        for i in -120_000..120_000 {
            let x = i as f32 * 1e-4;
            let d = f64::from(x);
            let phi = 0.5 * (1.0 + candle_core::cpu::erf::erf_f64(d * std::f64::consts::FRAC_1_SQRT_2));
            let u = (2.0 / std::f64::consts::PI).sqrt() * (d + 0.044715 * d * d * d);
            let cases = [
                ("gelu_erf", gelu_erf(x), d * phi),
                ("gelu_tanh", gelu_tanh(x), 0.5 * d * (1.0 + u.tanh())),
                ("quick_gelu", quick_gelu(x), d / (1.0 + (-1.702 * d).exp())),
                ("silu", silu(x), d / (1.0 + (-d).exp())),
            ];
            for (name, ours, exact) in cases {
                let bound = 4.0 * f64::from(f32::EPSILON) * d.abs() + 1e-37;
                assert!((f64::from(ours) - exact).abs() <= bound, "{name}({x}) = {ours}, not {exact}");
            }
        }
    }

    #[test]
    fn activations_at_the_ends() {
        for f in [silu, quick_gelu, gelu_tanh, gelu_erf] {
            assert!(f(f32::NAN).is_nan());
            assert_eq!(f(1e5), 1e5);
            assert_eq!(f(-1e4), 0.0);
        }
    }

    /// 1e-6 relative on a variance of a million elements far from zero: the naive E[x^2]-E[x]^2 in f32
    /// loses all digits here (mean 1000, deviation 1).
    #[test]
    fn moments_of_a_million_elements() {
        let x: Vec<f32> = (0..1_000_003u32).map(|i| 1000.0 + (i as f32 * 0.618).sin()).collect();
        let n = x.len() as f64;
        let mean = x.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = x.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        let mut ours = Moments::default();
        x.chunks(4096).for_each(|chunk| ours.add(chunk));
        assert!((ours.mean() - mean).abs() <= 1e-6 * mean);
        assert!((ours.variance() - variance).abs() <= 1e-6 * variance);
    }
}
