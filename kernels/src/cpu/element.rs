//! Storage types of the CPU path: f32 as it is, bf16 widened on load and rounded once on store.

use crate::cpu::vectorized;
use candle_core::WithDType;
use half::bf16;

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
            *d = bf16::from_bits(round_to_bf16(*s));
        }
    }
}

/// Bits of the bf16 nearest to `x`, ties to even; a NaN stays a (quiet) NaN.
#[inline(always)]
fn round_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
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
    fn widening_is_exact() {
        let xs: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let mut ours = vec![0f32; xs.len()];
        bf16::load(&xs, &mut ours);
        for (x, y) in xs.iter().zip(ours) {
            assert!(x.to_f32().to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()), "{x}: {y}");
        }
    }
}
