//! What the CPU forward passes share. Nothing here knows an op; nothing here is unsafe.
//!
//! All arithmetic is f32 whatever the storage type: an [`Element`](element::Element) is widened when it
//! is read and rounded once when the result is written.

pub(crate) mod element;
pub(crate) mod math;
pub(crate) mod panel;
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
