//! Products on AMX tiles. The compiler's own functions for them are not stable yet, so the instructions are written here.

use super::{LEFT_BLOCK, Left, ROWS, Right};
use std::arch::asm;
use std::marker::PhantomData;

/// Eight tiles of 16 rows by 64 bytes on this thread.
pub(super) struct Tiles {
    /// The configuration is the thread's.
    _thread: PhantomData<*const ()>,
}

impl Tiles {
    #[expect(unsafe_code, reason = "an instruction of AMX")]
    pub(super) fn configure() -> Self {
        #[repr(align(64))]
        struct Configuration([u8; 64]);
        let mut configuration = Configuration([0; 64]);
        configuration.0[0] = 1;
        for tile in 0..8 {
            configuration.0[16 + 2 * tile] = 64;
            configuration.0[48 + tile] = 16;
        }
        // SAFETY: `Instructions::of` chose AMX, so the processor has it and the system allows it.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack, readonly)) };
        Self { _thread: PhantomData }
    }
}

impl Drop for Tiles {
    #[expect(unsafe_code, reason = "an instruction of AMX")]
    fn drop(&mut self) {
        // SAFETY: `configure` ran on this thread.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// `acc (+)= left * right`; the caller has checked the sizes.
#[expect(unsafe_code, reason = "the kernels take pointers")]
pub(super) fn multiply(left: Left<'_>, right: Right<'_>, acc: &mut [f32], stride: usize, add: bool) {
    let left_stride = left.stride;
    for first in (0..left.row_blocks).step_by(2) {
        let two = first + 1 < left.row_blocks;
        let left = &left.data[first * left_stride..];
        let acc = &mut acc[first * ROWS * stride..];
        // SAFETY: the tiles are configured, since only `Multiplier` calls this; `Multiplier::multiply` has checked that every
        // address lies within its slice.
        unsafe {
            match two {
                true => two_by_two(left, left_stride, right, acc, stride, add),
                false => one_by_two(left, left_stride, right, acc, stride, add),
            }
        }
    }
}

/// Bytes of a left block, as the instructions below spell it.
const _: () = assert!(LEFT_BLOCK * 2 == 1024);

/// Tiles 4 (and 5): the left blocks. Tiles 6 and 7: 32 columns of the right block.
macro_rules! load_operands {
    (1) => {
        "tileloadd tmm4, [{l0} + {c64}*1]\ntileloadd tmm6, [{r} + {line}*1]\ntileloadd tmm7, [{r} + {line}*1 + 64]"
    };
    (2) => {
        concat!(load_operands!(1), "\ntileloadd tmm5, [{l1} + {c64}*1]")
    };
}

/// Tiles 0 and 1 (and 2 and 3) += the products of the left tiles and the right ones.
macro_rules! products {
    (1) => {
        "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm1, tmm4, tmm7"
    };
    (2) => {
        concat!(products!(1), "\ntdpbf16ps tmm2, tmm5, tmm6\ntdpbf16ps tmm3, tmm5, tmm7")
    };
}

/// Tiles 0 and 1 (and 2 and 3) from the sums; `{r}` is overwritten.
macro_rules! load_sums {
    (1) => {
        "tileloadd tmm0, [{acc} + {stride}*1]\ntileloadd tmm1, [{acc} + {stride}*1 + 64]"
    };
    (2) => {
        concat!(
            load_sums!(1),
            "\nmov {r}, {stride}\nshl {r}, 4\nadd {r}, {acc}\n",
            "tileloadd tmm2, [{r} + {stride}*1]\ntileloadd tmm3, [{r} + {stride}*1 + 64]"
        )
    };
}

/// The same tiles to the sums.
macro_rules! store_sums {
    (1) => {
        "tilestored [{acc} + {stride}*1], tmm0\ntilestored [{acc} + {stride}*1 + 64], tmm1"
    };
    (2) => {
        concat!(
            store_sums!(1),
            "\nmov {r}, {stride}\nshl {r}, 4\nadd {r}, {acc}\n",
            "tilestored [{r} + {stride}*1], tmm2\ntilestored [{r} + {stride}*1 + 64], tmm3"
        )
    };
}

/// Defines the product of one or two blocks of rows and 32 columns over the whole depth.
macro_rules! kernel {
    ($name:ident, $rows:tt) => {
        /// # Safety
        /// The tiles are configured, and the addresses that the arguments describe lie within their slices.
        #[expect(unsafe_code, reason = "AMX instructions on addresses")]
        unsafe fn $name(
            left: &[u16],
            left_stride: usize,
            right: Right<'_>,
            acc: &mut [f32],
            stride: usize,
            add: bool,
        ) {
            // SAFETY: the caller's promise; the instructions change no memory but the sums.
            unsafe {
                asm!(
                    "test {r}, {r}",
                    "jnz 2f",
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    "jmp 3f",
                    "2:",
                    load_sums!($rows),
                    "3:",
                    "mov {r}, [{steps}]",
                    "lea {r}, [{right} + {r}*4]",
                    load_operands!($rows),
                    products!($rows),
                    "add {l0}, 1024",
                    "add {l1}, 1024",
                    "add {steps}, 8",
                    "dec {count}",
                    "jnz 3b",
                    store_sums!($rows),
                    r = inout(reg) usize::from(add) => _,
                    l0 = inout(reg) left.as_ptr() => _,
                    l1 = inout(reg) left.as_ptr().wrapping_add(left_stride) => _,
                    c64 = in(reg) 64usize,
                    right = in(reg) right.data.as_ptr(),
                    line = in(reg) right.line_stride * 4,
                    steps = inout(reg) right.steps.as_ptr() => _,
                    count = inout(reg) right.steps.len() => _,
                    acc = in(reg) acc.as_mut_ptr(),
                    stride = in(reg) stride * 4,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

kernel!(two_by_two, 2);
kernel!(one_by_two, 1);
