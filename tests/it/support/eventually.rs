//! Waiting in tests for something to come true.

use std::time::{Duration, Instant};

/// Looks until `found` finds something; the deadline only ends a test that has failed.
pub(crate) async fn eventually<T>(found: impl AsyncFnMut() -> Option<T>) -> T {
    within(Duration::from_secs(10), found).await
}

/// The same with a deadline of one's own.
pub(crate) async fn within<T>(limit: Duration, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Some(value) = found().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still not so after {limit:?}");
}
