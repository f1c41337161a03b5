//! Storage types of the CPU path: f32 as it is, bf16 widened on load and rounded once on store.

use crate::cpu::{memory, vectorized};
use candle_core::WithDType;
use half::bf16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

/// A type tensors are stored in; arithmetic on it happens in f32.
pub(crate) trait Element: WithDType {
    /// Widens `src` into `dst`; both have one length.
    fn load(src: &[Self], dst: &mut [f32]);

    /// Rounds `src` into `dst` (to nearest, ties to even); both have one length.
    fn store(src: &[f32], dst: &mut [Self]);

    /// `src` in f32: `src` itself, or its widened copy in `scratch`.
    fn as_f32<'a>(src: &'a [Self], scratch: &'a mut Vec<f32>) -> &'a [f32];

    /// Lets `write` fill `dst` in f32: `dst` itself, or `scratch` that is rounded into it afterwards.
    fn write(dst: &mut [Self], scratch: &mut Vec<f32>, write: impl FnOnce(&mut [f32]));

    /// Memory for an output of `n` values.
    fn zeros(n: usize) -> Vec<Self> {
        memory::filled(Self::zero(), n)
    }

    /// The bits of `src` rounded to bf16; both have one length.
    fn to_bf16_bits(src: &[Self], dst: &mut [u16]);

    /// `a[i]` and `b[i]` rounded to bf16, in the low and the high half of `dst[i]`; all have one length.
    fn pair(a: &[Self], b: &[Self], dst: &mut [u32]);
}

impl Element for f32 {
    #[inline]
    fn load(src: &[f32], dst: &mut [f32]) {
        dst.copy_from_slice(src);
    }

    #[inline]
    fn store(src: &[f32], dst: &mut [f32]) {
        dst.copy_from_slice(src);
    }

    #[inline]
    fn as_f32<'a>(src: &'a [f32], _scratch: &'a mut Vec<f32>) -> &'a [f32] {
        src
    }

    #[inline]
    fn write(dst: &mut [f32], _scratch: &mut Vec<f32>, write: impl FnOnce(&mut [f32])) {
        write(dst);
    }

    #[inline]
    fn to_bf16_bits(src: &[f32], dst: &mut [u16]) {
        bf16::store(src, dst.reinterpret_cast_mut());
    }

    #[inline]
    fn pair(a: &[f32], b: &[f32], dst: &mut [u32]) {
        round_pair(a, b, dst);
    }
}

impl Element for bf16 {
    #[inline]
    fn load(src: &[bf16], dst: &mut [f32]) {
        assert_eq!(src.len(), dst.len());
        widen(src, dst);
    }

    #[inline]
    fn store(src: &[f32], dst: &mut [bf16]) {
        assert_eq!(src.len(), dst.len());
        round(src, dst);
    }

    #[inline]
    fn as_f32<'a>(src: &'a [bf16], scratch: &'a mut Vec<f32>) -> &'a [f32] {
        scratch.resize(src.len(), 0.0);
        Self::load(src, scratch);
        scratch
    }

    #[inline]
    fn write(dst: &mut [bf16], scratch: &mut Vec<f32>, write: impl FnOnce(&mut [f32])) {
        scratch.resize(dst.len(), 0.0);
        write(scratch);
        Self::store(scratch, dst);
    }

    #[inline]
    fn to_bf16_bits(src: &[bf16], dst: &mut [u16]) {
        dst.copy_from_slice(src.reinterpret_cast());
    }

    #[inline]
    fn pair(a: &[bf16], b: &[bf16], dst: &mut [u32]) {
        pair_bits(a, b, dst);
    }
}

vectorized! {
    fn widen<'a>(src: &'a [bf16], dst: &'a mut [f32]) {
        for (d, s) in dst.iter_mut().zip(src) {
            *d = f32::from_bits((s.to_bits() as u32) << 16);
        }
    }
}

vectorized! {
    fn round<'a>(src: &'a [f32], dst: &'a mut [bf16]) {
        for (d, s) in dst.iter_mut().zip(src) {
            *d = bf16::from_bits(rounded_bits(*s) as u16);
        }
    }
}

vectorized! {
    fn pair_bits<'a>(a: &'a [bf16], b: &'a [bf16], dst: &'a mut [u32]) {
        for ((d, a), b) in dst.iter_mut().zip(a).zip(b) {
            *d = u32::from(a.to_bits()) | u32::from(b.to_bits()) << 16;
        }
    }
}

vectorized! {
    fn round_pair<'a>(a: &'a [f32], b: &'a [f32], dst: &'a mut [u32]) {
        for ((d, a), b) in dst.iter_mut().zip(a).zip(b) {
            *d = rounded_bits(*a) | rounded_bits(*b) << 16;
        }
    }
}

/// Bits of the bf16 nearest to `x`, ties to even; a NaN stays a (quiet) NaN.
#[inline(always)]
fn rounded_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    if x.is_nan() { quiet } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_half_does() {
        let specials = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE];
        let ties = (0..4096u32).map(|i| f32::from_bits(0x3f80_0000 + i * 0x4000));
        let xs: Vec<f32> = specials.into_iter().chain(ties).collect();
        let mut ours = vec![bf16::ZERO; xs.len()];
        bf16::store(&xs, &mut ours);
        for (x, y) in xs.iter().zip(ours) {
            let expected = bf16::from_f32(*x);
            assert!(y.to_bits() == expected.to_bits() || (y.is_nan() && expected.is_nan()), "{x}: {y}");
        }
    }

    #[test]
    fn pairs_hold_both_values_rounded() {
        let (a, b) = ([1.0, -2.5, 1.003_906_3f32], [3.0, f32::INFINITY, 0.0f32]);
        let mut ours = [0u32; 3];
        f32::pair(&a, &b, &mut ours);
        let [a, b] = [a, b].map(|x| x.map(bf16::from_f32));
        assert_eq!(ours, [0, 1, 2].map(|i| u32::from(a[i].to_bits()) | u32::from(b[i].to_bits()) << 16));
        let mut of_bf16 = [0u32; 3];
        bf16::pair(&a, &b, &mut of_bf16);
        assert_eq!(ours, of_bf16);
    }

    #[test]
    fn widening_is_exact() {
        let xs: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let mut ours = vec![0f32; xs.len()];
        bf16::load(&xs, &mut ours);
        for (x, y) in xs.iter().zip(ours) {
            assert!(x.to_f32().to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()), "{x}: {y}");
        }
    }
}
