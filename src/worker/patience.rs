//! Waiting for the machine: what fails for want of room, or because somebody holds a lock, is tried again until it
//! succeeds. What was computed is kept meanwhile, and the request keeps its claim.

use crate::fault::Fault;
use std::fmt::Display;
use std::time::Duration;

/// Pause after the first failure; each later one is twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// Longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// Tries until it succeeds, or fails through a fault that is not the machine's.
///
/// An async closure in place of `attempt` would make a future that cannot be spawned.
pub(super) async fn patiently<T, E, F>(attempt: impl Fn() -> F) -> Result<T, E>
where
    E: Fault + Display,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = FIRST;
    loop {
        match attempt().await {
            Err(error) if error.is_machines() => tracing::warn!(?pause, "{error}: waiting"),
            other => return other,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Failed {
        #[error("no room")]
        NoRoom,
        #[error("nonsense")]
        Nonsense,
    }

    impl Fault for Failed {
        fn is_machines(&self) -> bool {
            *self == Self::NoRoom
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_the_machines_fault_is_tried_again() {
        let tries = Cell::new(0);
        let attempt = || std::future::ready(tries.replace(tries.get() + 1));
        let done = patiently(|| async { if attempt().await < 20 { Err(Failed::NoRoom) } else { Ok(()) } });
        assert_eq!((done.await, tries.take()), (Ok(()), 21));
        let failed = patiently(|| async {
            Err::<(), _>(if attempt().await < 2 { Failed::NoRoom } else { Failed::Nonsense })
        });
        assert_eq!((failed.await, tries.get()), (Err(Failed::Nonsense), 3));
    }
}
