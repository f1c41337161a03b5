//! Makes the allocator return freed memory to the system.

use std::time::Duration;

/// How often freed memory is returned.
const RETURN_INTERVAL: Duration = Duration::from_secs(1);

/// An allocation that the allocator asks the system for, in bytes.
const LARGE: usize = 2 << 20;

/// Returns freed memory to the system, for ever: mimalloc looks for what it may return only when it is asked for a large
/// piece, which a process without work never does.
pub(crate) async fn return_freed_memory() {
    let mut clock = tokio::time::interval(RETURN_INTERVAL);
    loop {
        clock.tick().await;
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
    }
}
