//! Progress of a long command on standard error, and the signal that ends it.

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// Between two log lines, where standard error is no terminal.
const LOG_EVERY: Duration = Duration::from_secs(5);

/// Whether a signal asked this process to end.
#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on SIGINT and SIGTERM end the work instead of the process, so that nothing unfinished is left.
    pub(crate) fn at_signals(runtime: &Handle) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let _context = runtime.enter();
            let (mut signal, stop) = (signal(kind)?, stop.clone());
            runtime.spawn(async move {
                signal.recv().await;
                stop.store(true, Ordering::Relaxed);
            });
        }
        Ok(Self(stop))
    }
}

/// Bytes of a whole, or what else is counted.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: &'static str,
    logged: Mutex<Instant>,
    stop: Stop,
}

impl Progress {
    /// `what` is done with `total` bytes.
    pub(crate) fn new(what: &'static str, total: u64, stop: &Stop) -> Self {
        let bar = match io::stderr().is_terminal() {
            true => ProgressBar::new(total),
            false => ProgressBar::with_draw_target(Some(total), indicatif::ProgressDrawTarget::hidden()),
        };
        let template = "{msg} {wide_bar} {decimal_bytes:>9}/{decimal_total_bytes:9} {decimal_bytes_per_sec:>11}, {eta} left";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(what);
        Self { bar, what, logged: Mutex::new(Instant::now()), stop: stop.clone() }
    }

    /// Adds bytes that were done.
    ///
    /// # Errors
    /// A signal ended the work.
    pub(crate) fn add(&self, bytes: u64) -> io::Result<()> {
        if self.stop.0.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped by a signal; nothing is left of it"));
        }
        self.bar.inc(bytes);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if self.bar.is_hidden() && logged.elapsed() >= LOG_EVERY {
            *logged = Instant::now();
            let total = self.bar.length().unwrap_or_default();
            tracing::info!("{} {} of {}", self.what, DecimalBytes(self.bar.position()), DecimalBytes(total));
        }
        Ok(())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
