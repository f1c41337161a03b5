//! Another engine's part of a report of `latentd bench denoise`, measured in turns with ours.

use super::row;
use super::stats::{Percentiles, Samples, Summary, short};
use latentd_models::bench::{DenoiseRun, STOCK_ENGINE};
use serde::Serialize;

/// What the other engine took for the same work.
#[derive(Debug, Serialize)]
pub(super) struct RivalJson {
    engine: &'static str,
    denoise_s: Summary,
    step_ms: Percentiles,
    runs_s: Vec<f64>,
    /// Our median by theirs: below 1 we are faster.
    latentd_by_rival: f64,
}

impl RivalJson {
    /// `None` without runs.
    pub(super) fn new(runs: &[DenoiseRun], our_median_s: f64) -> Option<Self> {
        let runs_s: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
        let steps_ms = runs.iter().flat_map(|run| &run.step_seconds).map(|seconds| seconds * 1e3).collect();
        let denoise_s = Samples::new(runs_s.clone())?.summary();
        let step_ms = Samples::new(steps_ms)?.percentiles();
        let latentd_by_rival = our_median_s / denoise_s.median;
        Some(Self { engine: STOCK_ENGINE, denoise_s, step_ms, runs_s, latentd_by_rival })
    }

    pub(super) fn table(&self) -> String {
        let Summary { median, min, max, n } = self.denoise_s;
        let times = format!("{} s median, {} to {}, {n} runs", short(median), short(min), short(max));
        let ratio = format!("latentd takes {} of its time", short(self.latentd_by_rival));
        row("rival", &format!("{}: {times}; {ratio}", self.engine))
    }
}
