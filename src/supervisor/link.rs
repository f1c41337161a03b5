//! The pipes between the server and a worker: commands go in, signs of life come back.

use super::Stage;
use crate::queue::Events;
use crate::worker::{CHANGED, FINISHED};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// A worker that sent nothing for this long does not count as ready. It sends a sign of life twice a second.
const UNREADY_AFTER: Duration = Duration::from_secs(2);

/// How long a worker may take at least to its first sign of life.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// How often the signs of life are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Wakes the worker when a request is submitted, sends it `drain`, wakes clients that wait for changes, counts the worker's
/// signs of life, and calls `on_finish` when it has finished a request.
pub(super) async fn carry_signals(
    events: Events,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    mut stage: watch::Receiver<Stage>,
    signs: watch::Sender<u64>,
    on_finish: impl Fn(),
) {
    let (Some(mut input), Some(mut output)) = (input, output) else { return };
    let mut work = events.work();
    let mut buffer = [0; 64];
    loop {
        let command: &[u8] = tokio::select! {
            Ok(()) = work.changed() => b"\n",
            Ok(()) = stage.changed() => b"drain\n",
            read = output.read(&mut buffer) => match read {
                Ok(count @ 1..) => {
                    signs.send_modify(|count| *count += 1);
                    if buffer[..count].contains(&CHANGED) {
                        events.wake_waiters();
                    }
                    if buffer[..count].contains(&FINISHED) {
                        on_finish();
                    }
                    continue;
                }
                _ => return,
            },
            else => return,
        };
        if input.write_all(command).await.is_err() {
            return;
        }
    }
}

/// Resolves when a worker was silent for `limit`; `on_change` is called when it falls silent and when it sends again. The
/// silence is counted in ticks of this loop, so that time in which the machine was suspended does not count.
pub(super) async fn silence(mut signs: watch::Receiver<u64>, limit: Duration, on_change: impl Fn(bool)) {
    let mut clock = tokio::time::interval(CHECK_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut silent, mut limit_now) = (Duration::ZERO, limit.max(START_TIMEOUT));
    loop {
        clock.tick().await;
        let was_ready = silent < UNREADY_AFTER;
        if signs.has_changed().unwrap_or(false) {
            signs.mark_unchanged();
            (silent, limit_now) = (Duration::ZERO, limit);
        } else {
            silent += CHECK_INTERVAL;
        }
        let is_ready = silent < UNREADY_AFTER;
        if is_ready != was_ready {
            on_change(!is_ready);
        }
        if silent >= limit_now {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test(start_paused = true)]
    async fn a_worker_counts_as_silent_after_two_seconds_and_is_killed_at_its_limit() {
        let (signs, limit) = (watch::Sender::new(0), Duration::from_secs(20));
        let changes = Mutex::new(Vec::new());
        let on_change = |silent| changes.lock().expect("no test panicked").push(silent);
        let mut watches = std::pin::pin!(silence(signs.subscribe(), limit, on_change));
        for (pause, expected) in [
            (Duration::from_millis(500), vec![]),
            (UNREADY_AFTER + CHECK_INTERVAL, vec![true]),
            (Duration::from_secs(5), vec![true]),
        ] {
            tokio::select! { () = &mut watches => panic!("given up"), () = tokio::time::sleep(pause) => {} }
            assert_eq!(*changes.lock().expect("no test panicked"), expected, "{pause:?}");
        }
        signs.send_modify(|count| *count += 1);
        tokio::select! { () = &mut watches => panic!("given up"), () = tokio::time::sleep(2 * CHECK_INTERVAL) => {} }
        assert_eq!(*changes.lock().expect("no test panicked"), [true, false]);
        let began = tokio::time::Instant::now();
        watches.await;
        assert!(began.elapsed() <= limit && began.elapsed() > limit - Duration::from_secs(1));
        assert_eq!(*changes.lock().expect("no test panicked"), [true, false, true]);
    }
}
