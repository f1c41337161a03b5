//! Numbers about numbers: summaries, percentiles and a histogram in text.

use serde::Serialize;
use std::time::Duration;

/// Rows of a histogram.
const ROWS: usize = 12;

/// Characters of a histogram's longest bar.
const BAR: usize = 40;

/// Measurements in ascending order, at least one.
#[derive(Debug, Clone)]
pub(super) struct Samples(Vec<f64>);

/// A few runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) n: usize,
}

/// Many requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
    pub(super) n: usize,
}

/// One row: how many samples are at least `from` and less than `to`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Bin {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) count: usize,
}

impl Samples {
    /// `None` of nothing.
    pub(super) fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    /// Durations as milliseconds.
    pub(super) fn milliseconds(durations: impl IntoIterator<Item = Duration>) -> Option<Self> {
        Self::new(durations.into_iter().map(|time| time.as_secs_f64() * 1e3).collect())
    }

    /// The smallest sample that at least `share` of all are not above (nearest rank): always a measured one.
    pub(super) fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    pub(super) fn summary(&self) -> Summary {
        let n = self.0.len();
        let median = (self.0[n / 2] + self.0[(n - 1) / 2]) / 2.0;
        Summary { median, min: self.0[0], max: self.0[n - 1], n }
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        let n = self.0.len();
        Percentiles {
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p999: self.percentile(0.999),
            min: self.0[0],
            max: self.0[n - 1],
            mean: self.0.iter().sum::<f64>() / n as f64,
            n,
        }
    }

    /// Bins that grow by a constant factor: a long tail stays on the screen.
    pub(super) fn histogram(&self) -> Vec<Bin> {
        let n = self.0.len();
        let (low, high) = (self.0[0].max(1e-3), self.0[n - 1].max(1e-3) * 1.000_001);
        let edge = |at: usize| low * (high / low).powf(at as f64 / ROWS as f64);
        let below = |limit: f64| self.0.partition_point(|sample| *sample < limit);
        let bin = |at: usize| {
            let (from, to) = (edge(at), edge(at + 1));
            let first = if at == 0 { 0 } else { below(from) };
            let end = if at + 1 == ROWS { n } else { below(to) };
            Bin { from, to, count: end - first }
        };
        (0..ROWS).map(bin).collect()
    }
}

/// A histogram as lines of text.
pub(super) fn draw(bins: &[Bin], unit: &str) -> String {
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    let line = |bin: &Bin| {
        // Something is never drawn as nothing.
        let length = (bin.count * BAR).div_ceil(most);
        let bar = "#".repeat(length);
        format!("  {:>10} to {:>10} {unit} {bar:<BAR$} {}\n", short(bin.from), short(bin.to), bin.count)
    };
    bins.iter().map(line).collect()
}

/// Three or four digits that matter.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(n: usize) -> Samples {
        Samples::new((1..=n).rev().map(|i| i as f64).collect()).expect("samples")
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let samples = to(1000);
        assert_eq!(samples.percentile(0.5), 500.0);
        assert_eq!(samples.percentile(0.99), 990.0);
        assert_eq!(samples.percentile(0.999), 999.0);
        assert_eq!(samples.percentile(1.0), 1000.0);
        assert_eq!(samples.percentile(0.0), 1.0);
        assert_eq!(to(1).percentile(0.99), 1.0);
        assert_eq!(to(3).percentile(0.5), 2.0);
        assert_eq!(samples.percentiles().mean, 500.5);
    }

    #[test]
    fn a_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(to(4).summary(), Summary { median: 2.5, min: 1.0, max: 4.0, n: 4 });
        assert_eq!(to(5).summary().median, 3.0);
    }

    #[test]
    fn nothing_has_no_statistics() {
        assert!(Samples::new(vec![]).is_none());
    }

    #[test]
    fn a_histogram_loses_no_sample() {
        for samples in [to(1), to(1000), Samples::new(vec![0.0, 0.0, 5.0]).expect("samples")] {
            let bins = samples.histogram();
            assert_eq!(bins.iter().map(|bin| bin.count).sum::<usize>(), samples.0.len());
        }
        let drawn = draw(&to(1000).histogram(), "ms");
        assert_eq!(drawn.lines().count(), ROWS);
        assert!(drawn.lines().last().expect("a row").contains(&"#".repeat(BAR)));
    }
}
