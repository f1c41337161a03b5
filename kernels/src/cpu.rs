//! Code that the ops' CPU implementations share. Nothing here knows an op. Unsafe are the products of
//! [`blocks`], which are written as instructions, and two system calls: for AMX in [`isa`], for large outputs in `memory`.
//!
//! Sums are f32 whatever the storage type: an [`Element`](element::Element) is widened when it is read and rounded once when
//! the result is written. The products of [`blocks`] read bf16 as it is.

pub(crate) mod blocks;
pub(crate) mod element;
pub(crate) mod group;
pub(crate) mod isa;
pub(crate) mod math;
pub(crate) mod matmul;
mod memory;
pub(crate) mod panel;
pub(crate) mod transpose;
pub(crate) mod view;

/// Elements a task takes in ops that go over rows: enough to repay handing it out. A constant, since the
/// cut into tasks must not depend on the number of threads.
pub(crate) const ROWS_TASK_ELEMENTS: usize = 1 << 15;

/// Calls `$f::<f32>` or `$f::<bf16>` by the type of `$storage`, or fails naming the op.
macro_rules! by_dtype {
    ($op:expr, $storage:expr, $f:ident($($arg:expr),* $(,)?)) => {
        match $storage {
            candle_core::CpuStorage::F32(_) => $f::<f32>($($arg),*),
            candle_core::CpuStorage::BF16(_) => $f::<half::bf16>($($arg),*),
            other => {
                use candle_core::backend::BackendStorage;
                candle_core::bail!("{}: expected f32 or bf16, got {:?}", $op, other.dtype())
            }
        }
    };
}
pub(crate) use by_dtype;

/// Defines a function whose body is compiled for the widest vectors of the machine at hand.
///
/// The body must be plain loops over `inline(always)` functions: a closure in it may stay a call of its
/// own, and would then be compiled for the baseline machine.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$lt:lifetime>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name<$lt>($($arg: $ty),*) {
            struct Op<$lt> {
                $($arg: $ty),*
            }
            impl<$lt> pulp::WithSimd for Op<$lt> {
                type Output = ();

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) {
                    let Self { $($arg),* } = self;
                    $body
                }
            }
            crate::cpu::isa::dispatch(Op { $($arg),* });
        }
    };
}
pub(crate) use vectorized;
