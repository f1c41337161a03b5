//! The progress of a pull: bars on a terminal, log lines without one, events for programs.

use crate::error::size;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where the progress of a pull is shown.
#[derive(Debug, Clone, Copy)]
pub enum ProgressOutput {
    /// On standard error: bars if it is a terminal, otherwise log lines.
    Terminal,
    /// As JSON objects that are given to this function one by one: `{"event": "progress", …}`.
    Events(fn(&Value)),
    /// Nowhere.
    None,
}

/// Between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Between two events of progress.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// Files below this size get no bar of their own.
const SMALL: u64 = 4_000_000;

/// The files of a pull, with what is shown of them.
pub(crate) struct Progress {
    output: Output,
    items: Vec<Item>,
}

#[derive(Clone)]
enum Output {
    Bars { all: MultiProgress, total: ProgressBar },
    Log,
    Events(fn(&Value)),
    None,
}

/// One file of it.
pub(crate) struct Item {
    pub(crate) path: String,
    size: u64,
    have: AtomicU64,
    bar: ProgressBar,
    output: Output,
}

impl Progress {
    /// Shows files: each with its path, its size and its bytes in the cache.
    pub(crate) fn new(output: ProgressOutput, files: impl IntoIterator<Item = (String, u64, u64)>) -> Self {
        let output = match output {
            ProgressOutput::None => Output::None,
            ProgressOutput::Events(send) => Output::Events(send),
            ProgressOutput::Terminal if std::io::stderr().is_terminal() => {
                let all = MultiProgress::new();
                let total = all.add(ProgressBar::no_length());
                total.set_style(style(
                    "{msg:30!} {wide_bar} {decimal_bytes:>9}/{decimal_total_bytes:9} {decimal_bytes_per_sec:>11}, {eta} left",
                ));
                total.set_message("total");
                Output::Bars { all, total }
            }
            ProgressOutput::Terminal => Output::Log,
        };
        let item = |(path, size, have)| Item {
            path,
            size,
            have: AtomicU64::new(have),
            bar: ProgressBar::hidden(),
            output: output.clone(),
        };
        let items: Vec<Item> = files.into_iter().map(item).collect();
        let progress = Self { items, output };
        if let Output::Bars { total, .. } = &progress.output {
            total.set_length(progress.size());
            total.set_position(progress.have());
            total.reset_eta();
            total.enable_steady_tick(Duration::from_millis(200));
        }
        progress
    }

    pub(crate) fn item(&self, index: usize) -> &Item {
        &self.items[index]
    }

    /// Bytes that are in the cache.
    pub(crate) fn have(&self) -> u64 {
        self.items.iter().map(|item| item.have.load(Ordering::Relaxed)).sum()
    }

    /// Bytes in all.
    pub(crate) fn size(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }

    /// Reports progress at intervals; never returns.
    pub(crate) async fn watch(&self) {
        let every = match self.output {
            Output::Log => LOG_EVERY,
            Output::Events(_) => EVENT_EVERY,
            Output::Bars { .. } | Output::None => return std::future::pending().await,
        };
        let mut last = (Instant::now(), self.have());
        let mut clock = tokio::time::interval(every);
        clock.tick().await;
        loop {
            clock.tick().await;
            let now = (Instant::now(), self.have());
            let speed = now.1.saturating_sub(last.1) as f64 / (now.0 - last.0).as_secs_f64().max(1e-3);
            last = now;
            self.report(now.1, speed);
        }
    }

    fn report(&self, have: u64, speed: f64) {
        let total = self.size();
        let left = (speed >= 1.0).then(|| (total.saturating_sub(have) as f64 / speed).ceil() as u64);
        if let Output::Events(send) = self.output {
            return send(&json!({
                "event": "progress", "bytes": have, "total_bytes": total,
                "bytes_per_second": speed.round(), "seconds_left": left,
            }));
        }
        let left = left.map_or_else(|| "stalled".into(), |seconds| format!("about {} left", time(seconds)));
        tracing::info!("pulled {} of {} at {}/s, {left}", size(have), size(total), size(speed as u64));
    }

    /// Sends an event, where events are what is shown.
    pub(crate) fn event(&self, event: &Value) {
        if let Output::Events(send) = self.output {
            send(event);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Output::Bars { all, total } = &self.output {
            total.finish_and_clear();
            let _ = all.clear();
        }
    }
}

impl Item {
    /// Shows that the transfer starts.
    pub(crate) fn start(&self) {
        let Output::Bars { all, total } = &self.output else { return };
        if self.size >= SMALL {
            all.insert_before(total, self.bar.clone());
            self.bar.set_style(style(
                "{msg:30!} {wide_bar} {decimal_bytes:>9}/{decimal_total_bytes:9} {decimal_bytes_per_sec:>11}",
            ));
            self.bar.set_length(self.size);
            self.bar.set_message(self.path.clone());
        }
    }

    /// Shows that the file is in the cache.
    pub(crate) fn finish(&self) {
        self.set(self.size);
        self.bar.finish_and_clear();
        if let Output::Events(send) = self.output {
            send(&json!({ "event": "file", "path": self.path, "bytes": self.size }));
        }
    }

    /// Adds bytes that were transferred.
    pub(crate) fn add(&self, bytes: u64) {
        self.have.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
        if let Output::Bars { total, .. } = &self.output {
            total.inc(bytes);
        }
    }

    /// Sets the bytes that are in the cache.
    pub(crate) fn set(&self, bytes: u64) {
        let before = self.have.swap(bytes, Ordering::Relaxed);
        self.bar.set_position(bytes);
        if let Output::Bars { total, .. } = &self.output {
            total.set_position((total.position() + bytes).saturating_sub(before));
        }
    }

    /// Shows a message about the file.
    pub(crate) fn note(&self, what: &str) {
        match &self.output {
            Output::Bars { all, .. } => drop(all.println(format!("{}: {what}", self.path))),
            Output::Log => tracing::warn!("{}: {what}", self.path),
            Output::Events(send) => send(&json!({ "event": "note", "path": self.path, "message": what })),
            Output::None => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A time in its largest unit.
fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_largest_unit() {
        assert_eq!([0, 59, 61, 3599, 3661].map(time), ["0 s", "59 s", "2 min", "60 min", "1 h 1 min"]);
    }

    #[test]
    fn a_file_that_starts_again_counts_from_zero() {
        let progress = Progress::new(ProgressOutput::None, [("a".into(), 100, 0), ("b".into(), 50, 20)]);
        progress.item(0).add(70);
        assert_eq!((progress.have(), progress.size()), (90, 150));
        progress.item(0).set(0);
        progress.item(1).finish();
        assert_eq!(progress.have(), 50);
    }
}
