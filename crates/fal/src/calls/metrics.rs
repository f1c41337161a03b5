//! `GET /metrics`: what operators watch, in Prometheus' text format.
//!
//! What happened to requests is counted in the queue's database, where every worker's numbers meet and stay; only
//! refusals, which leave no trace there, are counted in this process.

mod by_key;

use crate::calls::health::BEAT_AGE;
use crate::output::error::ApiError;
use crate::state::Api;
use crate::state::gpu::Gpu;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use by_key::{KEY_REQUESTS, KeyGauges};
use latentd_queue::keys::Caller;
use latentd_queue::queue::{Counter, Depth, Priority};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

/// What every name begins with.
const PREFIX: &str = "latentd";

/// Version 0.0.4 of the format, which every scraper reads.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metric that has a label for the endpoint.
const REQUESTS: &str = "requests";

/// One metric that is kept in the database.
struct Kept {
    /// What the queue calls it.
    metric: &'static str,
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    of: MetricType,
}

const KEPT: [Kept; 10] = [
    counter(REQUESTS, "Requests that ended", &["endpoint", "outcome"]),
    counter(KEY_REQUESTS, "Requests that ended, by the key that they came with", &["key", "outcome"]),
    histogram("queue_wait", "queue_wait_seconds", "From acceptance to the start of the last attempt", &[]),
    histogram("inference", "inference_seconds", "Spent in a stage of generating", &["stage"]),
    histogram("e2e", "e2e_seconds", "From acceptance to the result, where there is one", &[]),
    histogram("safety_score", "safety_score", "What the safety checker gave each image", &["measure"]),
    counter("safety_flagged", "Images that the safety checker found unsafe", &[]),
    counter(
        "adapters",
        "LoRA adapters, ControlNets and IP-Adapters of requests, by where their files came from",
        &["from"],
    ),
    counter("worker_restarts", "Workers that died and were started again", &["device"]),
    counter("webhook_attempts", "Attempts to deliver a webhook", &["outcome"]),
];

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Kept {
    Kept { metric: name, name, help, labels, of: MetricType::Counter }
}

const fn histogram(
    metric: &'static str,
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> Kept {
    Kept { metric, name, help, labels, of: MetricType::Histogram }
}

/// The metrics of now.
pub(crate) async fn get(api: &Api, caller: &Caller) -> Result<Response, ApiError> {
    let Depth { waiting, running } = api.queue.depth().await?;
    let waiting = [("normal", Priority::Normal), ("low", Priority::Low)].map(|(name, priority)| {
        (name, waiting.iter().filter(|(of, _)| *of == priority as i64).map(|(_, n)| n).sum())
    });
    let (ready, all) = api.queue.live_workers(BEAT_AGE).await?;
    let workers = [("ready", ready), ("loading", all.saturating_sub(ready))];
    let mut counters = api.queue.counters().await?;
    counters.iter_mut().filter(|counter| counter.metric == REQUESTS).for_each(|counter| name(api, counter));
    let devices =
        api.queue.devices().into_iter().map(|(name, why)| (name, u64::from(why.is_some()))).collect();
    let keys = by_key::read(api, caller, &mut counters).await?;
    let adapter_cache = api.adapter_cache_bytes.clone();
    let adapter_cache = tokio::task::spawn_blocking(move || adapter_cache()).await.unwrap_or_default();
    let gpus = api.gpus.clone();
    let gpus = tokio::task::spawn_blocking(move || gpus()).await.unwrap_or_default();
    let commit = api.commit;
    let snapshot =
        Snapshot { adapter_cache, counters, waiting, running, keys, workers, devices, gpus, commit };
    let mut registry = Registry::with_prefix(PREFIX);
    let about = "Requests that were refused before they were accepted";
    registry.register("rejected", about, api.refusals.counted.clone());
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, FORMAT), (CACHE_CONTROL, "no-store")], text).into_response())
}

/// The queue counts by model; operators know the endpoint at which it answers. Requests of early versions have no model.
fn name(api: &Api, counter: &mut Counter) {
    let of_model = api.endpoints.iter().find(|endpoint| endpoint.model == counter.labels[0]);
    if let Some(endpoint) = of_model {
        counter.labels[0] = endpoint.id();
    }
}

/// What one scrape reads.
#[derive(Debug)]
struct Snapshot {
    /// Bytes of the adapters that workers of this machine keep.
    adapter_cache: u64,
    counters: Vec<Counter>,
    waiting: [(&'static str, u64); 2],
    running: u64,
    keys: KeyGauges,
    workers: [(&'static str, u64); 2],
    /// Devices of this server, 1 for those that are set aside.
    devices: Vec<(String, u64)>,
    /// GPUs of this machine.
    gpus: Vec<Gpu>,
    commit: &'static str,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for kept in &KEPT {
            let metric = encoder.encode_descriptor(kept.name, kept.help, None, kept.of)?;
            self.encode_kept(kept, metric)?;
        }
        let KeyGauges { running, limits } = &self.keys;
        labelled(&mut encoder, "key_requests_running", "Requests of a key that run", "key", running)?;
        let help = "Requests of a key that may run at once";
        labelled(&mut encoder, "key_concurrency_limit", help, "key", limits)?;
        let help = "1: the workers of the device failed again and again and are not started for a while";
        labelled(&mut encoder, "device_set_aside", help, "device", &self.devices)?;
        self.encode_gpus(&mut encoder)?;
        let mut gauge = |name, help, rows: &[(&[(&str, &str)], u64)]| {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            rows.iter().try_for_each(|(labels, value)| metric.encode_family(labels)?.encode_gauge(value))
        };
        let [(normal, first), (low, second)] = self.waiting;
        let waiting = [(&[("priority", normal)][..], first), (&[("priority", low)], second)];
        gauge("queue_depth", "Requests that wait", &waiting)?;
        gauge(
            "adapter_cache_bytes",
            "Adapters and other fetched networks that are kept on this machine",
            &[(&[], self.adapter_cache)],
        )?;
        gauge("requests_running", "Requests that run", &[(&[], self.running)])?;
        let [(ready, first), (loading, second)] = self.workers;
        let workers = [(&[("state", ready)][..], first), (&[("state", loading)], second)];
        gauge("workers", "Workers that reported lately", &workers)?;
        let build = [("version", env!("CARGO_PKG_VERSION")), ("commit", self.commit)];
        gauge("build_info", "The program that answers", &[(&build, 1)])
    }
}

/// A gauge with a value for each value of one label.
fn labelled(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &str,
    rows: &[(String, u64)],
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    rows.iter()
        .try_for_each(|(value, count)| metric.encode_family(&[(label, value.as_str())])?.encode_gauge(count))
}

impl Snapshot {
    fn encode_gpus(&self, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut gauge = |name, help, value: &dyn Fn(&Gpu) -> Option<f64>| {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            self.gpus.iter().filter_map(|gpu| Some((gpu, value(gpu)?))).try_for_each(|(gpu, value)| {
                metric.encode_family(&[("device", gpu.device.as_str())])?.encode_gauge(&value)
            })
        };
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        let help = "Memory of a GPU of this machine that programs hold";
        gauge("gpu_memory_used_bytes", help, &|gpu| bytes(gpu.memory_used))?;
        gauge("gpu_memory_total_bytes", "Memory of a GPU of this machine", &|gpu| bytes(gpu.memory_total))?;
        let help = "Share of the last moments in which a GPU of this machine computed";
        gauge("gpu_utilization_ratio", help, &|gpu| gpu.utilization)?;
        gauge("gpu_temperature_celsius", "Temperature of a GPU of this machine", &|gpu| gpu.temperature)
    }

    fn encode_kept(&self, kept: &Kept, mut metric: MetricEncoder) -> Result<(), fmt::Error> {
        let mut found = self.counters.iter().filter(|counter| counter.metric == kept.metric).peekable();
        if found.peek().is_none() && kept.labels.is_empty() && matches!(kept.of, MetricType::Counter) {
            return metric.encode_counter::<NoLabelSet, _, u64>(&0u64, None);
        }
        found.try_for_each(|counter| {
            let values = counter.labels.iter().map(String::as_str);
            let labels: Vec<_> = kept.labels.iter().copied().zip(values).collect();
            let mut metric = metric.encode_family(&labels)?;
            match kept.of {
                MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&counter.count(), None),
                _ => {
                    let Counter { sum, buckets, .. } = counter;
                    metric.encode_histogram::<NoLabelSet>(*sum, counter.count(), buckets, None)
                }
            }
        })
    }
}
