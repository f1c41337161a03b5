//! Sets a device aside whose workers fail again and again: they are not started again for a while.
//!
//! Failures count together when they come within ten minutes, and also when the device has finished no request in between:
//! an engine that hangs is noticed only after minutes, so that failures of a device on which each request hangs are far apart.

use super::cause::Cause;
use crate::queue::Queue;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many failures set a device aside, if they come within [`WINDOW`] or no request is finished in between.
const FAILURES: usize = 5;

/// How long a failure counts if requests are finished after it.
const WINDOW: Duration = Duration::from_secs(600);

/// How long a device is set aside before it is tried again.
const REST: Duration = Duration::from_secs(600);

/// A device on which workers run, and their failures there.
pub(super) struct Device<'a> {
    name: String,
    queue: &'a Queue,
    history: Arc<Mutex<History>>,
}

impl<'a> Device<'a> {
    pub(super) fn new(name: String, queue: &'a Queue) -> Self {
        queue.set_device(&name, None);
        Self { name, queue, history: Arc::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Records a worker's death, which may set the device aside.
    pub(super) fn record(&self, cause: Cause) {
        let Cause::Failure(words) = cause else { return };
        let Some(pattern) = locked(&self.history).record(Instant::now()) else { return };
        let reason = match pattern {
            Pattern::Within => {
                format!("{FAILURES} failures within {} minutes, the last by {words}", WINDOW.as_secs() / 60)
            }
            Pattern::WithoutResult => {
                format!("{FAILURES} failures without a finished request in between, the last by {words}")
            }
            Pattern::Again => format!("another failure when it was tried again, by {words}"),
        };
        tracing::error!(
            device = self.name,
            reason,
            "the device is set aside: it is tried again in {} minutes, or when the server is started again",
            REST.as_secs() / 60
        );
        self.queue.set_device(&self.name, Some(reason));
    }

    /// How long the device is still set aside; `None`: it is in use, as it is from now on once that time is over.
    pub(super) fn rest(&self) -> Option<Duration> {
        let mut history = locked(&self.history);
        let (was_resting, rest) = (history.is_resting, history.rest(Instant::now()));
        if was_resting && rest.is_none() {
            tracing::warn!(device = self.name, "the device, which was set aside, is tried again");
            self.queue.set_device(&self.name, None);
        }
        rest
    }

    /// What to call when a worker on the device has finished a request.
    pub(super) fn on_finish(&self) -> impl Fn() + Send + use<> {
        let history = self.history.clone();
        move || locked(&history).in_a_row = 0
    }
}

fn locked(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Failures for which a device is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    /// [`FAILURES`] within [`WINDOW`].
    Within,
    /// [`FAILURES`] without a finished request in between.
    WithoutResult,
    /// The next one after it was set aside: within [`WINDOW`], or before it has finished a request.
    Again,
}

/// The failures on one device.
#[derive(Debug, Default)]
struct History {
    recent: VecDeque<Instant>,
    /// Failures since a request was finished.
    in_a_row: usize,
    /// When the device was set aside last.
    set_aside_at: Option<Instant>,
    is_resting: bool,
}

impl History {
    /// Records a failure; whether the device is to be set aside for it, and why.
    fn record(&mut self, now: Instant) -> Option<Pattern> {
        if self.is_resting {
            return None; // of another worker on the device, which still ran
        }
        self.recent.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        self.recent.push_back(now);
        self.in_a_row += 1;
        let is_suspect =
            self.set_aside_at.is_some_and(|at| now.saturating_duration_since(at) < REST + WINDOW);
        let pattern = match (self.recent.len(), self.in_a_row) {
            (FAILURES.., _) => Pattern::Within,
            (_, FAILURES) => Pattern::WithoutResult,
            (_, in_a_row) if is_suspect || in_a_row > FAILURES => Pattern::Again,
            _ => return None,
        };
        self.recent.clear();
        (self.set_aside_at, self.is_resting) = (Some(now), true);
        Some(pattern)
    }

    /// How long the device rests still; its rest ends when that is over.
    fn rest(&mut self, now: Instant) -> Option<Duration> {
        let over = self.set_aside_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.is_resting = self.is_resting && over < REST;
        self.is_resting.then(|| REST - over)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Stage, supervise};
    use super::*;
    use crate::args::{self, Command};
    use crate::config::ServeConfig;
    use clap::Parser;
    use latentd_models as models;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use tokio::sync::watch;

    /// Ends a test that has failed.
    const LIMIT: Duration = Duration::from_secs(120);

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn five_failures_within_ten_minutes_set_a_device_aside() {
        let start = Instant::now();
        let patterns = |apart: Duration| {
            let mut history = History::default();
            let mut record = |failure| {
                history.in_a_row = 0; // a request was finished
                history.record(start + apart * failure)
            };
            (0..6).map(&mut record).collect::<Vec<_>>()
        };
        assert_eq!(patterns(2 * MINUTE), [None, None, None, None, Some(Pattern::Within), None]);
        assert_eq!(patterns(3 * MINUTE), [None; 6], "one every three minutes is within what is borne");
    }

    /// As where the first step of every request hangs, which takes five minutes to notice.
    #[test]
    fn five_failures_without_a_finished_request_set_a_device_aside_however_far_apart_they_are() {
        let (hang, mut now, mut history) = (6 * MINUTE, Instant::now(), History::default());
        let mut fail = |history: &mut History| {
            now += hang;
            (history.record(now), now)
        };
        for _ in 1..FAILURES {
            assert_eq!(fail(&mut history).0, None);
        }
        let (pattern, first) = fail(&mut history);
        assert_eq!(pattern, Some(Pattern::WithoutResult));
        assert_eq!(history.rest(first + REST), None);
        now = first + REST + 10 * hang;
        let (pattern, second) = (history.record(now), now);
        assert_eq!(pattern, Some(Pattern::Again), "it has finished nothing yet");
        assert_eq!(history.rest(second + REST), None);
        history.in_a_row = 0;
        assert_eq!(history.record(second + REST + WINDOW), None);
    }

    #[tokio::test]
    async fn a_finished_request_starts_the_count_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let queue = Queue::open(&folder.path().join("q.sqlite"), Arc::new(jiff::Timestamp::now)).await;
        let queue = queue.expect("a database");
        let device = Device::new("cuda:0".into(), &queue);
        locked(&device.history).in_a_row = FAILURES - 1;
        device.on_finish()();
        assert_eq!(locked(&device.history).in_a_row, 0);
    }

    #[test]
    fn a_device_is_tried_again_after_its_rest_and_one_failure_sets_it_aside_again() {
        let (start, mut history) = (Instant::now(), History::default());
        let patterns: Vec<_> = (0..5).map(|_| history.record(start)).collect();
        assert_eq!(patterns.last(), Some(&Some(Pattern::Within)));
        history.in_a_row = 0;
        assert_eq!(history.rest(start + MINUTE), Some(9 * MINUTE));
        assert_eq!(history.rest(start + REST), None);
        assert_eq!(history.record(start + REST + MINUTE), Some(Pattern::Again));
        let second = start + REST + MINUTE;
        assert_eq!(history.rest(second + REST), None);
        assert_eq!(history.record(second + REST + WINDOW), None, "it has worked for ten minutes");
        assert_eq!(history.rest(second + REST + WINDOW), None);
    }

    /// Workers in place of the real ones: that of one GPU crashes, that of the second is killed as from outside, and that of
    /// the third works. Each first notes its start.
    const WORKERS: &str = r#"#!/bin/sh
echo >> "${0%/*}/$3"
case "$3" in cuda:0) kill -SEGV $$ ;; cuda:1) kill -KILL $$ ;; *) exec cat ;; esac
"#;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_workers_of_other_devices_go_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("workers");
        std::fs::write(&program, WORKERS).expect("a disk");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).expect("a file of ours");
        let queue = Queue::open(&folder.path().join("q.sqlite"), Arc::new(jiff::Timestamp::now)).await;
        let queue = queue.expect("a database");
        let flags = ["latentd", "serve", "--device", "cpu,cpu,cpu"];
        let args::Cli { command, log, .. } = args::Cli::parse_from(flags);
        let Command::Serve(flags) = command else { panic!("serve") };
        let mut config = ServeConfig::resolve(*flags, log).expect("flags");
        for (number, engine) in config.engines.iter_mut().enumerate() {
            engine.device = models::Device::Cuda(number);
        }
        let (stage, stages) = watch::channel(Stage::Run);
        let starts =
            |device: &str| std::fs::read_to_string(folder.path().join(device)).map_or(0, |text| text.len());
        let observe = async {
            let began = Instant::now();
            // The one that is killed from outside is started again after its fifth death.
            while starts("cuda:1") <= FAILURES {
                assert!(began.elapsed() < LIMIT, "{} starts", starts("cuda:1"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let set_aside: Vec<_> = queue.devices().into_iter().filter(|(_, why)| why.is_some()).collect();
            let reason =
                "5 failures within 10 minutes, the last by a segmentation fault (SIGSEGV)".to_owned();
            assert_eq!(set_aside, [("cuda:0".to_owned(), Some(reason))]);
            assert_eq!((starts("cuda:0"), starts("cuda:2")), (FAILURES, 1));
            stage.send_replace(Stage::Now);
        };
        tokio::join!(supervise(&config, &program, &queue, stages), observe);
    }
}
