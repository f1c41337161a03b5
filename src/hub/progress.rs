//! How far a pull is: bars on a terminal, log lines without one, lines of JSON for programs.

use super::error::size;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Whom to show a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// People: bars on a terminal, log lines elsewhere.
    People,
    /// Programs: JSON on standard output.
    Json,
    /// Nobody.
    Nobody,
}

/// Between two log lines.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Between two lines of JSON.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// Files below this size get no bar of their own.
const SMALL: u64 = 4_000_000;

/// What is shown of a pull.
pub(super) struct Progress {
    output: Output,
    items: Vec<Item>,
}

#[derive(Clone)]
enum Output {
    Bars { all: MultiProgress, total: ProgressBar },
    Log,
    Json,
    Nothing,
}

/// One file of it.
pub(super) struct Item {
    pub(super) path: String,
    size: u64,
    have: AtomicU64,
    bar: ProgressBar,
    output: Output,
}

impl Progress {
    /// Begins to show files: their paths, sizes, and what is here of them.
    pub(super) fn new(show: Show, files: impl IntoIterator<Item = (String, u64, u64)>) -> Self {
        let output = match show {
            Show::Nobody => Output::Nothing,
            Show::Json => Output::Json,
            Show::People if std::io::stderr().is_terminal() => {
                let all = MultiProgress::new();
                let total = all.add(ProgressBar::no_length());
                total.set_style(style(
                    "{msg:30!} {wide_bar} {decimal_bytes:>9}/{decimal_total_bytes:9} {decimal_bytes_per_sec:>11}, {eta} left",
                ));
                total.set_message("total");
                Output::Bars { all, total }
            }
            Show::People => Output::Log,
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

    pub(super) fn item(&self, index: usize) -> &Item {
        &self.items[index]
    }

    /// Bytes that are here.
    pub(super) fn have(&self) -> u64 {
        self.items.iter().map(|item| item.have.load(Ordering::Relaxed)).sum()
    }

    /// Bytes in all.
    pub(super) fn size(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }

    /// Says now and then how far it is, for as long as it is polled.
    pub(super) async fn watch(&self) {
        let every = match self.output {
            Output::Log => LOG_EVERY,
            Output::Json => JSON_EVERY,
            Output::Bars { .. } | Output::Nothing => return std::future::pending().await,
        };
        let mut last = (Instant::now(), self.have());
        let mut clock = tokio::time::interval(every);
        clock.tick().await;
        loop {
            clock.tick().await;
            let now = (Instant::now(), self.have());
            let speed = now.1.saturating_sub(last.1) as f64 / (now.0 - last.0).as_secs_f64().max(1e-3);
            last = now;
            self.tell(now.1, speed);
        }
    }

    fn tell(&self, have: u64, speed: f64) {
        let total = self.size();
        let left = (speed >= 1.0).then(|| (total.saturating_sub(have) as f64 / speed).ceil() as u64);
        if matches!(self.output, Output::Json) {
            let line = json!({
                "event": "progress", "bytes": have, "total_bytes": total,
                "bytes_per_second": speed.round(), "seconds_left": left,
            });
            println!("{line}");
            return;
        }
        let left = left.map_or_else(|| "stalled".into(), |seconds| format!("about {} left", time(seconds)));
        tracing::info!("pulled {} of {} at {}/s, {left}", size(have), size(total), size(speed as u64));
    }

    /// A line of JSON, for programs alone.
    pub(super) fn event(&self, event: &serde_json::Value) {
        if matches!(self.output, Output::Json) {
            println!("{event}");
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
    /// The transfer begins.
    pub(super) fn begin(&self) {
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

    /// The file is here.
    pub(super) fn end(&self) {
        self.set(self.size);
        self.bar.finish_and_clear();
        if matches!(self.output, Output::Json) {
            println!("{}", json!({ "event": "file", "path": self.path, "bytes": self.size }));
        }
    }

    /// So many bytes more are here.
    pub(super) fn add(&self, bytes: u64) {
        self.have.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
        if let Output::Bars { total, .. } = &self.output {
            total.inc(bytes);
        }
    }

    /// So many bytes are here.
    pub(super) fn set(&self, bytes: u64) {
        let before = self.have.swap(bytes, Ordering::Relaxed);
        self.bar.set_position(bytes);
        if let Output::Bars { total, .. } = &self.output {
            total.set_position((total.position() + bytes).saturating_sub(before));
        }
    }

    /// Tells what happened to the file.
    pub(super) fn note(&self, what: &str) {
        match &self.output {
            Output::Bars { all, .. } => drop(all.println(format!("{}: {what}", self.path))),
            Output::Log => tracing::warn!("{}: {what}", self.path),
            Output::Json => println!("{}", json!({ "event": "note", "path": self.path, "message": what })),
            Output::Nothing => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Seconds for people.
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
    fn times_are_told_in_their_size() {
        assert_eq!([0, 59, 61, 3599, 3661].map(time), ["0 s", "59 s", "2 min", "60 min", "1 h 1 min"]);
    }

    #[test]
    fn a_file_that_begins_anew_counts_from_there() {
        let progress = Progress::new(Show::Nobody, [("a".into(), 100, 0), ("b".into(), 50, 20)]);
        progress.item(0).add(70);
        assert_eq!((progress.have(), progress.size()), (90, 150));
        progress.item(0).set(0);
        progress.item(1).end();
        assert_eq!(progress.have(), 50);
    }
}
