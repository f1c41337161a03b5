//! The process of `latentd worker`: loads the model, sends heartbeats, follows its parent's commands, exits in order.
//!
//! Under `serve` the parent writes an empty line to wake the worker, and `drain` to end it after the requests in progress.
//! The worker writes a newline whenever a request has changed, a plus when it has finished one, and a dot twice a second as a
//! sign of life. The parent's death closes standard input: the worker then puts its claims back, uncharged, and exits.

use super::{EngineThread, HeldClaims, IDLE_POLL, StepLimits, Worker, WorkerError, run_time, with_retry};
use crate::adapters::{self, AdapterCache, AdapterFiles};
use crate::allocator;
use crate::checker;
use crate::config::{AdapterConfig, EngineConfig, FETCH_ALLOW, Model, WorkerConfig, model};
use crate::data_dir;
use crate::ended_workers;
use crate::engine::{self, Engine, EngineError, Loader, ModelPool, ModelSlot, Sd3Engine};
use crate::identity;
use crate::memory_budget::{self, Size};
use crate::memory_check;
use crate::model_error;
use crate::queue::{Events, Lost, Queue, WorkerState};
use crate::service_manager;
use crate::storage::Storage;
use latentd_egress::Client;
use latentd_models as models;
use latentd_trace::Exporter;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

/// How often a worker writes its heartbeat to the database.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How often a worker writes a sign of life to its parent.
const ALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// What a worker writes to its parent: that a request has changed, or only that the worker is alive.
pub(crate) const CHANGED: u8 = b'\n';
const ALIVE: u8 = b'.';

/// What it writes when a request is finished: its device works.
pub(crate) const FINISHED: u8 = b'+';

/// Exit code of a worker whose parent is gone.
const ORPHANED: i32 = 3;

/// Exit code of a worker under `serve` whose engine failed, by which `serve` knows that the device or its driver may be to
/// blame.
pub(crate) const ENGINE_FAILED: i32 = 4;

/// How long a worker that exits tries to put its claims back. Claims that stay are reclaimed by the server.
const PUT_BACK_TIMEOUT: Duration = Duration::from_secs(3);

/// How the worker appears in the tables.
#[derive(Clone)]
struct Registered {
    id: String,
    device: String,
    held: HeldClaims,
}

/// Runs a worker until a signal or its parent ends it.
///
/// # Errors
/// When the stores cannot be opened, the model cannot be loaded, or the engine failed.
pub async fn run_process(config: WorkerConfig) -> Result<(), WorkerError> {
    let id = config.supervised_as.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let data_dir = &config.store.data_dir;
    data_dir::make(data_dir)?;
    // By it others know when this process has ended, however it ends.
    let lock = data_dir::hold_worker(data_dir, &id);
    if let Err(error) = &lock {
        tracing::warn!(%error, "the worker has no lock: if it is killed, its request waits until its lease is over");
    }
    let (drain, drained) = watch::channel(false);
    let (drain, parent_gone) = (Arc::new(drain), Arc::new(Notify::new()));
    let events = Events::default();
    if config.supervised_as.is_some() {
        read_commands(events.clone(), drain.clone(), parent_gone.clone())?;
        tokio::spawn(report_to_parent(events.clone()));
    }
    let exporter = config.otlp.as_ref().map(Exporter::start).transpose();
    let exporter = exporter.map_err(WorkerError::Load)?;
    let database = &config.store.database;
    let queue = with_retry(|| Queue::open(database, Arc::new(jiff::Timestamp::now))).await?;
    let queue = queue.with_events(events);
    let storage = Storage::open(&config.store.files)?;
    with_retry(|| identity::check_folder(&queue, &storage)).await?;
    if config.supervised_as.is_none()
        && let Err(error) = ended_workers::put_back(&queue, data_dir).await
    {
        tracing::warn!(%error, "requests of workers that ended are not put back");
    }
    let registered =
        Registered { id: id.clone(), device: device_name(config.engine.device), held: HeldClaims::default() };
    let (state, states) = watch::channel(WorkerState::Loading);
    tokio::spawn(allocator::return_freed_memory());
    tokio::spawn(service_manager::keep_alive());
    tokio::spawn(send_heartbeats(queue.clone(), registered.clone(), states));

    let ended = tokio::select! {
        ended = load_and_run(&config, registered, queue.clone(), storage, state, drained) => ended,
        () = must_stop(&drain, config.drain_timeout) => {
            tracing::warn!("the requests in progress go back to the queue");
            put_back(&queue, Lost::Stopped(&id)).await;
            Ok(())
        }
        () = parent_gone.notified() => {
            put_back(&queue, Lost::Stopped(&id)).await;
            stop(exporter).await;
            std::process::exit(ORPHANED);
        }
    };
    if ended.is_err() {
        put_back(&queue, Lost::Died(&id)).await;
    }
    stop(exporter).await;
    if let Err(error @ WorkerError::Hung { .. }) = &ended {
        tracing::error!("{error}");
        std::process::abort(); // an orderly exit would wait for the hung engine
    }
    if let Err(error) = queue.forget_worker(&id).await {
        tracing::warn!(%error, "the worker is still registered");
    }
    if ended.is_ok()
        && let Err(error) = data_dir::forget_worker(data_dir, &id)
    {
        tracing::warn!(%error, "the worker's lock is not removed");
    }
    queue.close().await;
    if let (Err(error @ WorkerError::Engine(_)), Some(_)) = (&ended, &config.supervised_as) {
        tracing::error!("{error}");
        std::process::exit(ENGINE_FAILED);
    }
    ended
}

/// Sends the last spans.
async fn stop(exporter: Option<Exporter>) {
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
}

/// Puts the worker's claims back, if the database answers soon.
async fn put_back(queue: &Queue, lost: Lost<'_>) {
    let reclaim = with_retry(|| queue.reclaim(lost));
    match tokio::time::timeout(PUT_BACK_TIMEOUT, reclaim).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "requests of the worker not put back yet"),
        Err(_) => tracing::warn!("requests of the worker not put back yet: the database does not answer"),
    }
}

async fn load_and_run(
    config: &WorkerConfig,
    Registered { id, device, held }: Registered,
    queue: Queue,
    storage: Storage,
    state: watch::Sender<WorkerState>,
    mut drained: watch::Receiver<bool>,
) -> Result<(), WorkerError> {
    let failed = |error: &dyn std::fmt::Display| WorkerError::Load(error.to_string());
    let models = model::assign(&config.models).map_err(|error| failed(&error))?;
    // `serve` has made this check for its workers.
    for model in models.iter().filter(|_| config.supervised_as.is_none()) {
        memory_budget::check_model(model, &config.engine, config.memory_budget)
            .map_err(|error| failed(&error))?;
    }
    let budget = memory_budget::bytes(config.memory_budget, config.engine.device, 1).unwrap_or(u64::MAX);
    let sizes = models.iter().map(|model| memory_budget::size(model, &config.engine, budget));
    let sizes = sizes.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
    let largest = sizes.iter().map(|size| size.whole).max().unwrap_or_default();
    let limits = StepLimits::planned(largest, config.engine.dtype, config.engine.device);
    let mode = sizes.iter().map(|size| size.mode).max().unwrap_or(models::MemoryMode::Resident);
    let limits = limits.or_fixed(config.step_timeout).in_mode(mode);
    let names = models.iter().flat_map(|model| &model.answers_for).map(|manifest| manifest.name.clone());
    let names = names.collect();
    // At the start, so that an error does not wait for the first request of a model.
    let safety = models.iter().map(|model| checker::resolve(&config.safety, &config.hub, &model.source));
    let safety = safety.collect::<model_error::Result<Vec<_>>>().map_err(|error| failed(&error))?;
    let sized = models.into_iter().zip(sizes).zip(safety);
    let slots = sized.map(|((model, size), safety)| slot(model, size, safety, config)).collect();
    let engine = tokio::select! {
        engine = EngineThread::load(loader(slots, budget)) => engine,
        _ = drained.wait_for(|drained| *drained) => return Ok(()),
        () = run_time(limits.load()) => {
            return Err(WorkerError::Hung { limit: limits.load(), doing: "loading the model" });
        }
    };
    let engine = engine.map_err(|error| match error {
        EngineError::Fault(message) => WorkerError::Engine(message),
        other => failed(&other),
    })?;
    state.send_replace(WorkerState::Ready);
    with_retry(|| queue.heartbeat(&id, &device, WorkerState::Ready, &[])).await?;
    with_retry(|| queue.report_loaded_models(&id, &engine.loaded)).await?;
    tracing::info!(worker = id, device, "the model is loaded");
    service_manager::ready("the model is loaded");
    let outgoing = Client::new(config.fetch.clone(), FETCH_ALLOW);
    let (models, idle_poll, hub) = (names, IDLE_POLL, config.hub.clone());
    let adapters = open_adapters(config)?;
    tokio::spawn(super::adapters::forget_uploads(queue.clone(), adapters.cache.clone()));
    Worker { id, device, queue, storage, outgoing, adapters, hub, models, engine, limits, held, idle_poll }
        .run(drained)
        .await
}

/// The adapters that requests may name.
fn open_adapters(config: &WorkerConfig) -> std::io::Result<AdapterFiles> {
    let AdapterConfig { named, controlnets, ip_adapters, max_bytes, cache_bytes } = config.adapters.clone();
    let cache = AdapterCache::open(&adapters::folder(&config.store.data_dir), cache_bytes)?;
    Ok(AdapterFiles { named, controlnets, ip_adapters, cache, max_bytes })
}

/// Opens the pool of models, on the engine's thread.
fn loader(slots: Vec<ModelSlot>, budget: u64) -> Loader {
    Box::new(move || Ok(Box::new(ModelPool::open(slots, budget)?) as Box<dyn Engine>))
}

/// The pool's slot for a model.
fn slot(model: Model, size: Size, safety: models::SafetyOptions, config: &WorkerConfig) -> ModelSlot {
    let name = model.name().to_owned();
    let answers_for = model.answers_for.iter().map(|manifest| manifest.name.clone()).collect();
    let Size { mode, bytes, .. } = size;
    let memory_modes = config.engine.memory_modes.from(mode);
    let (source, engine) = (model.source, EngineConfig { memory_modes, ..config.engine.clone() });
    let adapters = config.adapters.clone();
    let load = move || load(&source, &engine, &safety, &adapters).map_err(engine::load_error);
    ModelSlot { name, answers_for, bytes, load: Box::new(load) }
}

fn load(
    model: &models::ModelSource,
    config: &EngineConfig,
    safety: &models::SafetyOptions,
    adapters: &AdapterConfig,
) -> model_error::Result<Box<dyn Engine>> {
    let work = memory_check::served(model, adapters);
    let memory = memory_check::choose(model, config, safety, &work)?;
    tracing::info!(%model, "memory mode {}", memory.name());
    let mut pipeline = engine::open(model, config, memory)?;
    pipeline.set_safety(safety)?;
    tracing::info!(%model, "safety checker: {}", checker::describe(safety));
    Ok(Box::new(Sd3Engine::new(pipeline, config.t5_tokens)))
}

/// The device's name in flags and log lines.
pub(crate) fn device_name(device: models::Device) -> String {
    match device {
        models::Device::Cpu => "cpu".into(),
        models::Device::Cuda(ordinal) => format!("cuda:{ordinal}"),
    }
}

/// Reads the parent's commands on a thread of its own. The input ends with the parent, and the process soon after.
fn read_commands(
    events: Events,
    drain: Arc<watch::Sender<bool>>,
    parent_gone: Arc<Notify>,
) -> std::io::Result<()> {
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            match line.as_deref() {
                Ok("drain") => drop(drain.send_replace(true)),
                Ok(_) => events.wake_workers(),
                Err(_) => break,
            }
        }
        parent_gone.notify_one();
        std::thread::sleep(PUT_BACK_TIMEOUT + Duration::from_secs(1));
        std::process::exit(ORPHANED);
    };
    std::thread::Builder::new().name("commands".into()).spawn(read)?;
    Ok(())
}

/// Writes to the parent that requests have changed or are finished, and that this process is alive.
async fn report_to_parent(events: Events) {
    let (mut moved, mut finished) = (events.moved(), events.finished());
    let mut output = tokio::io::stdout();
    let mut clock = tokio::time::interval(ALIVE_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let signal = tokio::select! {
            Ok(()) = moved.changed() => CHANGED,
            Ok(()) = finished.changed() => FINISHED,
            _ = clock.tick() => ALIVE,
        };
        if output.write_all(&[signal]).await.is_err() || output.flush().await.is_err() {
            return; // the input ends with the parent too, and that ends the process
        }
    }
}

/// Writes the worker's heartbeat to the database for as long as the process runs.
async fn send_heartbeats(queue: Queue, worker: Registered, state: watch::Receiver<WorkerState>) {
    let mut clock = tokio::time::interval(HEARTBEAT_INTERVAL);
    loop {
        clock.tick().await;
        let state = *state.borrow();
        let Registered { id, device, held } = &worker;
        if let Err(error) = queue.heartbeat(id, device, state, &held.ids()).await {
            tracing::warn!(%error, "the heartbeat could not be written");
        }
    }
}

/// Resolves when the worker must end although requests are in progress: `drain_timeout` after the first signal, at once
/// after the second.
async fn must_stop(drain: &watch::Sender<bool>, drain_timeout: Duration) {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::warn!("signals cannot be received");
        return std::future::pending().await;
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    service_manager::stopping();
    drain.send_replace(true);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tokio::time::sleep(drain_timeout) => {}
    }
}
