//! Where the time of a step goes: each op timed by name, on whatever device it runs.
//!
//! Off (one check of a thread-local for each op) unless [`profile`] runs. The ops of a captured step cannot be timed.

use crate::Result;
use candle_core::{Device, Tensor};
use std::cell::RefCell;
use std::time::Instant;

/// One op's share.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileRow {
    /// The op, for products with their sizes.
    pub op: String,
    /// How often it ran.
    pub calls: usize,
    /// In all.
    pub seconds: f64,
}

thread_local! {
    static SPANS: RefCell<Option<Vec<Span>>> = const { RefCell::new(None) };
}

struct Span {
    op: String,
    start: Point,
    end: Point,
}

/// A moment on a device: GPUs run behind the host, so theirs is an event in the stream.
enum Point {
    Host(Instant),
    #[cfg(feature = "cuda")]
    Stream(latentd_kernels::cuda::Event),
}

impl Point {
    fn now(device: &Device) -> candle_core::Result<Self> {
        #[cfg(feature = "cuda")]
        if device.is_cuda() {
            return latentd_kernels::cuda::Event::new(device).map(Self::Stream);
        }
        let _ = device;
        Ok(Self::Host(Instant::now()))
    }

    fn seconds_since(&self, earlier: &Self) -> candle_core::Result<f64> {
        match (earlier, self) {
            (Self::Host(earlier), Self::Host(now)) => Ok((*now - *earlier).as_secs_f64()),
            #[cfg(feature = "cuda")]
            (Self::Stream(earlier), Self::Stream(now)) => {
                now.wait()?;
                now.seconds_since(earlier)
            }
            #[cfg(feature = "cuda")]
            _ => candle_core::bail!("an op on two devices"),
        }
    }
}

/// Runs `op`, noting its time if a profile is being taken. `name` is only called then.
pub(crate) fn timed<T>(
    x: &Tensor,
    name: impl FnOnce() -> String,
    op: impl FnOnce() -> candle_core::Result<T>,
) -> candle_core::Result<T> {
    if SPANS.with_borrow(Option::is_none) {
        return op();
    }
    let start = Point::now(x.device())?;
    let result = op()?;
    let end = Point::now(x.device())?;
    SPANS.with_borrow_mut(|spans| {
        if let Some(spans) = spans {
            spans.push(Span { op: name(), start, end });
        }
    });
    Ok(result)
}

/// Runs `work` on this thread and returns what its ops cost, the most expensive first.
pub(crate) fn profile(work: impl FnOnce() -> Result<()>) -> Result<Vec<ProfileRow>> {
    SPANS.set(Some(Vec::new()));
    let worked = work();
    let spans = SPANS.take().unwrap_or_default();
    worked?;
    let mut rows: Vec<ProfileRow> = Vec::new();
    for Span { op, start, end } in spans {
        let seconds = end.seconds_since(&start)?;
        match rows.iter_mut().find(|row| row.op == op) {
            Some(row) => {
                row.calls += 1;
                row.seconds += seconds;
            }
            None => rows.push(ProfileRow { op, calls: 1, seconds }),
        }
    }
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(rows)
}
