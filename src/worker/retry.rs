//! Retries operations that fail through no fault of the request: a full disk, a locked or absent database. The request
//! keeps its claim and its computed images meanwhile.

use crate::fault::Fault;
use std::fmt::Display;
use std::time::Duration;

/// Pause after the first failure; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Repeats `attempt`, with exponential backoff, until it succeeds or fails with an error that a retry cannot help
/// ([`Fault::is_machines`]).
///
/// `attempt` is no async closure because the future of one cannot be spawned.
pub(super) async fn with_retry<T, E, F>(attempt: impl Fn() -> F) -> Result<T, E>
where
    E: Fault + Display,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt().await {
            Err(error) if error.is_machines() => tracing::warn!(?pause, "{error}: retrying"),
            other => return other,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Failed {
        #[error("disk full")]
        DiskFull,
        #[error("invalid")]
        Invalid,
    }

    impl Fault for Failed {
        fn is_machines(&self) -> bool {
            *self == Self::DiskFull
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_faults_of_the_machine_are_retried() {
        let tries = Cell::new(0);
        let attempt = || std::future::ready(tries.replace(tries.get() + 1));
        let done = with_retry(|| async { if attempt().await < 20 { Err(Failed::DiskFull) } else { Ok(()) } });
        assert_eq!((done.await, tries.take()), (Ok(()), 21));
        let failed = with_retry(|| async {
            Err::<(), _>(if attempt().await < 2 { Failed::DiskFull } else { Failed::Invalid })
        });
        assert_eq!((failed.await, tries.get()), (Err(Failed::Invalid), 3));
    }
}
