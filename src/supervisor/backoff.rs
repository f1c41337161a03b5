//! How long to wait before a dead worker is started again.

use std::time::{Duration, Instant};

/// Pauses after the first death, the second, and so on.
const PAUSES_S: [u64; 6] = [0, 1, 2, 5, 10, 30];

/// A death this long after the one before counts as the first.
const GOOD: Duration = Duration::from_secs(60);

/// The deaths in one worker's place.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    in_a_row: usize,
    last: Option<Instant>,
}

impl Backoff {
    /// The pause after a death at `now`.
    pub(super) fn after_death(&mut self, now: Instant) -> Duration {
        let last = self.last.replace(now);
        let is_close = last.is_some_and(|last| now.saturating_duration_since(last) < GOOD);
        self.in_a_row = if is_close { self.in_a_row + 1 } else { 0 };
        Duration::from_secs(PAUSES_S[self.in_a_row.min(PAUSES_S.len() - 1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(apart: Duration, deaths: u32) -> Vec<u64> {
        let (start, mut backoff) = (Instant::now(), Backoff::default());
        (0..deaths).map(|death| backoff.after_death(start + apart * death).as_secs()).collect()
    }

    #[test]
    fn deaths_in_a_row_wait_longer_and_longer() {
        assert_eq!(pauses(Duration::from_secs(31), 8), [0, 1, 2, 5, 10, 30, 30, 30]);
    }

    #[test]
    fn deaths_a_minute_apart_never_wait() {
        assert_eq!(pauses(Duration::from_secs(60), 20), [0; 20]);
    }

    #[test]
    fn a_good_minute_ends_the_row() {
        let (start, mut backoff) = (Instant::now(), Backoff::default());
        let mut at = |second| backoff.after_death(start + Duration::from_secs(second)).as_secs();
        assert_eq!([at(0), at(1), at(2), at(62), at(63)], [0, 1, 2, 0, 1]);
    }
}
