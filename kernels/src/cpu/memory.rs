//! Memory of outputs: zeroed by all threads, which also take the page faults, and in huge pages where it is large.

use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Values that a thread zeroes at once.
const PIECE: usize = 1 << 18;
/// Bytes from which on huge pages are asked for: a page fault then makes 2 MiB instead of 4 KiB.
#[cfg(target_os = "linux")]
const LARGE: usize = 8 << 20;

/// `n` times `zero`.
#[expect(unsafe_code, reason = "the length of memory that threads have filled")]
pub(super) fn filled<T: Copy + Send + Sync>(zero: T, n: usize) -> Vec<T> {
    if n < 2 * PIECE {
        return vec![zero; n];
    }
    let mut values = Vec::with_capacity(n);
    let memory = &mut values.spare_capacity_mut()[..n];
    #[cfg(target_os = "linux")]
    advise_huge_pages(memory);
    memory.par_chunks_mut(PIECE).for_each(|piece| piece.fill(MaybeUninit::new(zero)));
    // SAFETY: `n` values have capacity, and the loop has written each of them.
    unsafe { values.set_len(n) };
    values
}

/// Asks the system to back large memory with huge pages.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "a system call on an address")]
fn advise_huge_pages<T>(memory: &[MaybeUninit<T>]) {
    const PAGE: usize = 4096;
    if size_of_val(memory) < LARGE {
        return;
    }
    let start = (memory.as_ptr() as usize).next_multiple_of(PAGE);
    let end = (memory.as_ptr() as usize + size_of_val(memory)) / PAGE * PAGE;
    // SAFETY: the pages lie within the allocation, and the advice changes no contents. A refusal is no error.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_filled() {
        for n in [0, 1, 2 * PIECE - 1, 2 * PIECE, 9 * PIECE + 7] {
            let values = filled(7u16, n);
            assert_eq!(values.len(), n);
            assert!(values.iter().all(|v| *v == 7));
        }
    }
}
