//! What has happened, counted: numbers that outlive requests and processes.
//!
//! How requests end is counted by triggers of the schema; workers add what only they saw, in the transaction that
//! records a result.

use super::store::{Tx, query};
use super::{Queue, QueueError};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    metric: &'static str,
    label: String,
    value: f64,
}

impl Observation {
    /// A request was so many seconds in a stage.
    pub fn stage(stage: &str, seconds: f64) -> Self {
        Self { metric: "inference", label: stage.to_owned(), value: seconds }
    }

    /// The safety checker gave an image this score, which is a `measure`.
    pub fn safety_score(measure: &str, score: f64) -> Self {
        Self { metric: "safety_score", label: measure.to_owned(), value: score }
    }

    /// The safety checker found an image unsafe.
    pub fn safety_flagged() -> Self {
        Self::plain("safety_flagged", "")
    }

    /// A worker died and its place is filled again.
    pub fn worker_restart(device: &str) -> Self {
        Self::plain("worker_restarts", device)
    }

    /// A worker has a LoRA adapter ready for a request, from this kind of place.
    pub fn adapter(from: &str) -> Self {
        Self::plain("adapters", from)
    }

    pub(super) fn webhook_attempt(outcome: &str) -> Self {
        Self::plain("webhook_attempts", outcome)
    }

    /// That it happened is all.
    fn plain(metric: &'static str, label: &str) -> Self {
        Self { metric, label: label.to_owned(), value: 0.0 }
    }
}

/// All observations of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Counter {
    /// What is counted.
    pub metric: String,
    /// The value of the metric's label; empty where it has none.
    pub labels: [String; 2],
    /// Upper end of each bucket with what is in it, in order; the last one is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// Of the values.
    pub sum: f64,
}

impl Counter {
    /// Observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// How much there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// Requests that wait, with their priority, where there are any.
    pub waiting: Vec<(i64, u64)>,
    /// Requests that are claimed by workers.
    pub running: u64,
}

const COUNT: &str = "INSERT INTO counters (metric, label, other, bound, count, sum)
    VALUES ($1, $2, '', coalesce(
        (SELECT min(bound) FROM counter_bounds WHERE metric = $1 AND bound >= $3), $4), 1, $3)
    ON CONFLICT (metric, label, other, bound)
        DO UPDATE SET count = counters.count + 1, sum = counters.sum + excluded.sum";

const COUNTERS: &str = "SELECT metric, label, other, bound, count, sum FROM counters
    ORDER BY metric, label, other, bound";

const BOUNDS: &str = "SELECT metric, bound FROM counter_bounds ORDER BY metric, bound";

const DEPTH: &str = "SELECT priority, count(*) FROM requests WHERE state = 'waiting' GROUP BY priority";

const RUNNING: &str = "SELECT count(*) FROM requests WHERE state = 'running'";

impl Queue {
    /// Counts something that belongs to no transaction.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn observe(&self, seen: &Observation) -> Result<(), QueueError> {
        let mut tx = self.writer.begin().await?;
        count(&mut tx, seen).await?;
        tx.commit().await
    }

    /// Everything that was counted so far.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn counters(&self) -> Result<Vec<Counter>, QueueError> {
        let mut bounds = Vec::new();
        for row in query(BOUNDS).fetch_all(&self.reader).await? {
            bounds.push((row.try_get::<String, _>(0)?, row.try_get::<f64, _>(1)?));
        }
        let mut counters: Vec<Counter> = Vec::new();
        for row in query(COUNTERS).fetch_all(&self.reader).await? {
            let (metric, labels): (String, _) = (row.try_get(0)?, [row.try_get(1)?, row.try_get(2)?]);
            let (bound, count): (f64, i64) = (row.try_get(3)?, row.try_get(4)?);
            let last = counters.last().is_some_and(|last| last.metric == metric && last.labels == labels);
            if !last {
                let of = bounds.iter().filter(|(of, _)| *of == metric);
                let buckets = of.map(|(_, bound)| (*bound, 0)).collect();
                counters.push(Counter { metric, labels, buckets, sum: 0.0 });
            }
            if let Some(counter) = counters.last_mut() {
                counter.sum += row.try_get::<f64, _>(5)?;
                let count = count.unsigned_abs();
                match counter.buckets.iter_mut().find(|(end, _)| *end == bound) {
                    Some(bucket) => bucket.1 += count,
                    None => counter.buckets.push((bound, count)),
                }
            }
        }
        Ok(counters)
    }

    /// What waits and what runs.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let mut waiting = Vec::new();
        for row in query(DEPTH).fetch_all(&self.reader).await? {
            waiting.push((row.try_get(0)?, row.try_get::<i64, _>(1)?.unsigned_abs()));
        }
        let running: i64 = query(RUNNING).fetch_one(&self.reader).await?.try_get(0)?;
        Ok(Depth { waiting, running: running.unsigned_abs() })
    }
}

/// Counts observations of one transaction. Always in one order: of two transactions that count the same at once, one waits
/// for the other and never both.
pub(super) async fn count_all(tx: &mut Tx, seen: &[Observation]) -> Result<(), QueueError> {
    let mut seen: Vec<_> = seen.iter().collect();
    seen.sort_by(|a, b| (a.metric, &a.label).cmp(&(b.metric, &b.label)).then(a.value.total_cmp(&b.value)));
    for seen in seen {
        count(tx, seen).await?;
    }
    Ok(())
}

/// Counts an observation, in the transaction of what it belongs to. A value that is no number is not counted.
pub(super) async fn count(tx: &mut Tx, seen: &Observation) -> Result<(), QueueError> {
    if seen.value.is_finite() {
        let query = query(COUNT).bind(seen.metric).bind(&seen.label).bind(seen.value).bind(f64::INFINITY);
        query.execute(&mut *tx).await?;
    }
    Ok(())
}
