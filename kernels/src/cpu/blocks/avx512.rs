//! The same products by `vdpbf16ps`, for processors that have it without tiles.

use super::{COLUMNS, DEPTH, LEFT_BLOCK, Left, PAIRS, ROWS, Right};
use std::arch::x86_64::{
    __m512, __m512bh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

/// Rows that are summed at a time: with two vectors of columns, 16 of 32 registers.
const TILE_ROWS: usize = 8;

/// `acc (+)= left * right`; the caller has checked the sizes.
#[expect(unsafe_code, reason = "instructions that the baseline has not, on addresses")]
pub(super) fn multiply(left: Left<'_>, right: Right<'_>, acc: &mut [f32], stride: usize, add: bool) {
    for row in (0..left.row_blocks * ROWS).step_by(TILE_ROWS) {
        let left = &left.data[row / ROWS * left.stride + row % ROWS * DEPTH..];
        // SAFETY: `Instructions::of` chose this, so the processor has the instructions; `Multiplier::multiply` has checked
        // that every address lies within its slice.
        unsafe { rows(left, right, &mut acc[row * stride..], stride, add) };
    }
}

/// # Safety
/// The processor has AVX512-BF16, and the addresses that the arguments describe lie within their slices.
#[expect(unsafe_code, reason = "loads from addresses that are checked once for all rows")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rows(left: &[u16], right: Right<'_>, acc: &mut [f32], stride: usize, add: bool) {
    let mut sums = [[_mm512_setzero_ps(); 2]; TILE_ROWS];
    // SAFETY: the caller's promise.
    unsafe {
        if add {
            for (r, sums) in sums.iter_mut().enumerate() {
                let line = acc.as_ptr().add(r * stride);
                *sums = [_mm512_loadu_ps(line), _mm512_loadu_ps(line.add(COLUMNS / 2))];
            }
        }
        for (k, step) in right.steps.iter().enumerate() {
            let left = left.as_ptr().add(k * LEFT_BLOCK).cast::<i32>();
            let right_block = right.data.as_ptr().add(*step);
            for pair in 0..PAIRS {
                let line = right_block.add(pair * right.line_stride);
                let columns = [load_pairs(line), load_pairs(line.add(COLUMNS / 2))];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_epi32(left.add(r * PAIRS + pair).read_unaligned());
                    let value: __m512bh = std::mem::transmute(value);
                    for (sum, columns) in sums.iter_mut().zip(columns) {
                        *sum = _mm512_dpbf16_ps(*sum, value, columns);
                    }
                }
            }
        }
        for (r, [first, second]) in sums.into_iter().enumerate() {
            let line = acc.as_mut_ptr().add(r * stride);
            store(line, first);
            store(line.add(COLUMNS / 2), second);
        }
    }
}

/// # Safety
/// 16 pairs can be read.
#[expect(unsafe_code, reason = "a load from an address")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn load_pairs(pairs: *const u32) -> __m512bh {
    // SAFETY: the caller's promise; the types have one size and every bit pattern.
    unsafe { std::mem::transmute(_mm512_loadu_si512(pairs.cast())) }
}

/// # Safety
/// 16 values can be written.
#[expect(unsafe_code, reason = "a store to an address")]
#[target_feature(enable = "avx512f")]
unsafe fn store(line: *mut f32, sums: __m512) {
    // SAFETY: the caller's promise.
    unsafe { _mm512_storeu_ps(line, sums) };
}
