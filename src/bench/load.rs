//! `latentd bench load`: many requests against a running server, as fal clients send them.
//!
//! A closed loop keeps a number of clients busy and finds the throughput. An open loop sends on a schedule, and
//! times every request from the moment it was due: a server that stalls cannot slow down its own measurement.

mod client;
mod waiting;

use super::machine;
use super::stats::{Bin, Percentiles, Samples, draw, short};
use super::{at_least_one, publish, row};
use crate::args::LoadArgs;
use crate::config::ConfigError;
use client::{Failure, FalClient};
use serde::Serialize;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;
use waiting::{Crowd, Waiting};

/// How requests follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Plan {
    /// Each client sends its next request when its last is done.
    Closed { clients: usize, requests: u64 },
    /// Request `i` is due at `i / rate`.
    Open { rate: f64, requests: u64 },
}

/// One request's fate.
#[derive(Debug)]
struct Outcome {
    /// From when it was due to the answer to its submit.
    submit: Option<Duration>,
    /// From when it was due to its result.
    total: Option<Duration>,
    failure: Option<Failure>,
}

/// The JSON of a run.
#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    engine: &'static str,
    url: String,
    endpoint: String,
    #[serde(rename = "loop")]
    mode: &'static str,
    clients: Option<usize>,
    rate_per_s: Option<f64>,
    submit_only: bool,
    waiting: Option<Waiting>,
    requests: u64,
    seconds: f64,
    throughput_per_s: f64,
    submit_ms: Option<Percentiles>,
    total_ms: Option<Percentiles>,
    submit_histogram: Vec<Bin>,
    total_histogram: Vec<Bin>,
    errors: BTreeMap<String, u64>,
    client_commit: &'static str,
    date: String,
    command: Vec<String>,
}

/// Measures what `args` ask for.
pub(super) fn run(args: LoadArgs, runtime: &Runtime) -> anyhow::Result<()> {
    let plan = plan(&args)?;
    let client = Arc::new(FalClient::new(&args)?);
    let (submit_only, waiting) = (args.submit_only, args.waiting);
    let (outcomes, took, waiting) = runtime.block_on(async move {
        let with_base = |failure| anyhow::anyhow!("{}: {failure}", client.base());
        client.reach().await.map_err(with_base)?;
        let crowd = match waiting {
            0 => None,
            clients => Some(Crowd::gather(&client, clients).await.map_err(with_base)?),
        };
        let started = Instant::now();
        let outcomes = follow(plan, move |due| {
            let client = client.clone();
            async move { request(&client, due, submit_only).await }
        });
        let (outcomes, took) = (outcomes.await, started.elapsed());
        let waiting = match crowd {
            None => None,
            Some(crowd) => Some(crowd.dismiss().await),
        };
        anyhow::Ok((outcomes, took, waiting))
    })?;
    let report = report(&args, plan, &outcomes, took, waiting);
    publish(&report, &report.table(), &args.report)?;
    let failed: u64 = report.errors.values().sum();
    if failed == report.requests { anyhow::bail!("every request failed") } else { Ok(()) }
}

fn plan(args: &LoadArgs) -> Result<Plan, ConfigError> {
    let positive = |flag: &str, value: f64| match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => Err(ConfigError(format!("{flag} {value}: give a number above 0"))),
    };
    positive("--timeout", args.timeout)?;
    positive("--duration", args.duration)?;
    at_least_one("--clients", args.clients)?;
    at_least_one("--requests", usize::try_from(args.requests).unwrap_or(usize::MAX))?;
    match args.rate {
        None => Ok(Plan::Closed { clients: args.clients, requests: args.requests }),
        Some(rate) => {
            positive("--rate", rate)?;
            Ok(Plan::Open { rate, requests: ((rate * args.duration).round() as u64).max(1) })
        }
    }
}

/// Calls `job` with the moment each request is due, as the plan says, and waits for all.
async fn follow<F>(plan: Plan, job: impl Fn(Instant) -> F + Clone + Send + 'static) -> Vec<Outcome>
where
    F: Future<Output = Outcome> + Send + 'static,
{
    match plan {
        Plan::Closed { clients, requests } => closed(clients, requests, job).await,
        Plan::Open { rate, requests } => open(rate, requests, job).await,
    }
}

async fn closed<F>(
    clients: usize,
    requests: u64,
    job: impl Fn(Instant) -> F + Clone + Send + 'static,
) -> Vec<Outcome>
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let taken = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (taken, job) = (taken.clone(), job.clone());
        tasks.spawn(async move {
            let mut outcomes = Vec::new();
            while taken.fetch_add(1, Ordering::Relaxed) < requests {
                outcomes.push(job(Instant::now()).await);
            }
            outcomes
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Due times come from the start and the rate alone, never from when the last request was sent.
async fn open<F>(rate: f64, requests: u64, job: impl Fn(Instant) -> F) -> Vec<Outcome>
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..requests {
        let due = start + Duration::from_secs_f64(index as f64 / rate);
        tokio::time::sleep_until(due).await;
        tasks.spawn(job(due));
    }
    tasks.join_all().await
}

async fn request(client: &FalClient, due: Instant, submit_only: bool) -> Outcome {
    let submitted = match client.submit().await {
        Ok(submitted) => submitted,
        Err(failure) => return Outcome { submit: None, total: None, failure: Some(failure) },
    };
    let submit = Some(due.elapsed());
    if submit_only {
        return Outcome { submit, total: None, failure: None };
    }
    match client.finish(&submitted).await {
        Ok(()) => Outcome { submit, total: Some(due.elapsed()), failure: None },
        Err(failure) => Outcome { submit, total: None, failure: Some(failure) },
    }
}

fn report(
    args: &LoadArgs,
    plan: Plan,
    outcomes: &[Outcome],
    took: Duration,
    waiting: Option<Waiting>,
) -> Report {
    let mut errors = BTreeMap::new();
    for failure in outcomes.iter().filter_map(|outcome| outcome.failure.as_ref()) {
        *errors.entry(failure.to_string()).or_default() += 1;
    }
    let submits = Samples::milliseconds(outcomes.iter().filter_map(|outcome| outcome.submit));
    let totals = Samples::milliseconds(outcomes.iter().filter_map(|outcome| outcome.total));
    let done = outcomes.iter().filter(|outcome| outcome.failure.is_none()).count();
    let bins = |samples: &Option<Samples>| samples.as_ref().map(Samples::histogram).unwrap_or_default();
    let (mode, clients, rate_per_s) = match plan {
        Plan::Closed { clients, .. } => ("closed", Some(clients), None),
        Plan::Open { rate, .. } => ("open", None, Some(rate)),
    };
    Report {
        bench: "load",
        engine: "latentd",
        url: args.url.clone(),
        endpoint: args.endpoint.clone(),
        mode,
        clients,
        rate_per_s,
        submit_only: args.submit_only,
        waiting,
        requests: outcomes.len() as u64,
        seconds: took.as_secs_f64(),
        throughput_per_s: done as f64 / took.as_secs_f64(),
        submit_ms: submits.as_ref().map(Samples::percentiles),
        total_ms: totals.as_ref().map(Samples::percentiles),
        submit_histogram: bins(&submits),
        total_histogram: bins(&totals),
        errors,
        client_commit: machine::commit(),
        date: machine::date(),
        command: machine::command(),
    }
}

impl Report {
    fn table(&self) -> String {
        let mut table = format!("latentd bench load: {} at {}\n", self.endpoint, self.url);
        let how = match (self.clients, self.rate_per_s) {
            (Some(clients), _) => format!("closed loop, {clients} clients"),
            (_, rate) => {
                format!(
                    "open loop, {} requests a second, timed from when they were due",
                    short(rate.unwrap_or(0.0))
                )
            }
        };
        table += &row("how", &how);
        if let Some(waiting) = &self.waiting {
            table += &row("meanwhile", &waiting.to_string());
        }
        let done = self.requests - self.errors.values().sum::<u64>();
        table += &row(
            "requests",
            &format!(
                "{done} of {} done in {} s: {} a second",
                self.requests,
                short(self.seconds),
                short(self.throughput_per_s)
            ),
        );
        for (kind, count) in &self.errors {
            table += &row("failed", &format!("{count}: {kind}"));
        }
        for (name, percentiles, bins) in [
            ("submit", self.submit_ms, &self.submit_histogram),
            ("end to end", self.total_ms, &self.total_histogram),
        ] {
            let Some(of) = percentiles else { continue };
            let [p50, p90, p99, p999, max] = [of.p50, of.p90, of.p99, of.p999, of.max].map(short);
            table += "\n";
            table += &row(name, &format!("{p50} ms p50, {p90} p90, {p99} p99, {p999} p99.9, {max} at most"));
            table += &draw(bins, "ms");
        }
        table
    }
}

#[cfg(test)]
mod tests;
