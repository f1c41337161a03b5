//! `latentd worker` as a process: loads the model, beats, obeys its parent, ends cleanly.
//!
//! Under `serve` the parent writes a line to wake the worker, `drain` to end it after the request
//! in hand, and the worker writes a line whenever something moved. The parent's death closes the
//! input: the worker then ends at once and leaves its claim to the next `serve`.

use super::{EngineThread, Worker, WorkerError};
use crate::budget;
use crate::checker;
use crate::config::{EngineConfig, FETCH_ALLOW, MemoryBudget, Model, WorkerConfig, model};
use crate::data_dir;
use crate::engine::{self, Engine, Loader, Sd3Engine, Shelf, Volume};
use crate::identity;
use crate::outgoing::Outgoing;
use crate::queue::{Events, Lost, Queue, WorkerState};
use crate::room;
use crate::storage::Storage;
use latentd_models::{self as models, Work};
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often a worker says that it lives.
const BEAT: Duration = Duration::from_secs(5);

/// Exit code of a worker whose parent is gone.
const ORPHANED: i32 = 3;

/// Runs a worker until it is told to stop.
///
/// # Errors
/// When the stores cannot be opened, the model cannot be loaded, or the engine failed.
pub async fn run_process(config: WorkerConfig) -> Result<(), WorkerError> {
    let id = config.supervised_as.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    data_dir::make(&config.store.data_dir)?;
    let queue = Queue::open(&config.store.database, Arc::new(jiff::Timestamp::now)).await?;
    let storage = Storage::local(&config.store.files)?;
    identity::check_folder(&queue, &storage).await?;
    let device = device_name(config.engine.device);
    let (drain, drained) = watch::channel(false);
    let drain = Arc::new(drain);
    if config.supervised_as.is_some() {
        obey_input(queue.events().clone(), drain.clone())?;
        tokio::spawn(tell_moves(queue.events().clone()));
    }
    let (state, states) = watch::channel(WorkerState::Loading);
    tokio::spawn(beat(queue.clone(), id.clone(), device.clone(), states));

    let ended = tokio::select! {
        ended = load_and_run(&config, id.clone(), device, queue.clone(), storage, state, drained) => ended,
        () = stopped(&drain, config.drain_timeout) => {
            tracing::warn!("the request in hand goes back to the queue");
            queue.reclaim(Lost::Stopped(&id)).await?;
            Ok(())
        }
    };
    if ended.is_err() {
        queue.reclaim(Lost::Died(&id)).await?;
    }
    queue.forget_worker(&id).await?;
    queue.close().await;
    ended
}

async fn load_and_run(
    config: &WorkerConfig,
    id: String,
    device: String,
    queue: Queue,
    storage: Storage,
    state: watch::Sender<WorkerState>,
    mut drained: watch::Receiver<bool>,
) -> Result<(), WorkerError> {
    let failed = |error: &dyn std::fmt::Display| WorkerError::Load(error.to_string());
    let models = model::assign(&config.models).map_err(|error| failed(&error))?;
    // `serve` has refused for its workers what is to be refused.
    let asked = if config.supervised_as.is_some() { MemoryBudget::Auto } else { config.memory_budget };
    let sizes = budget::sizes(&models, &config.engine, asked).map_err(|error| failed(&error))?;
    let budget = budget::bytes(config.memory_budget, config.engine.device, 1).unwrap_or(u64::MAX);
    let names = models.iter().flat_map(|model| &model.answers_for).map(|manifest| manifest.name.clone());
    let names = names.collect();
    // Now, not when a model is wanted for the first time.
    let safety = models.iter().map(|model| checker::resolve(&config.safety, &model.source));
    let safety = safety.collect::<models::Result<Vec<_>>>().map_err(|error| failed(&error))?;
    let sized = models.into_iter().zip(sizes).zip(safety);
    let volumes = sized.map(|((model, bytes), safety)| volume(model, bytes, safety, config)).collect();
    let engine = tokio::select! {
        engine = EngineThread::load(loader(volumes, budget)) => engine,
        _ = drained.wait_for(|drained| *drained) => return Ok(()),
    };
    let engine = engine.map_err(|error| failed(&error))?;
    state.send_replace(WorkerState::Ready);
    queue.beat(&id, &device, WorkerState::Ready).await?;
    queue.tell_loaded(&id, &engine.loaded).await?;
    tracing::info!(worker = id, device, "the model is loaded");
    let outgoing = Outgoing::new(config.fetch.clone(), FETCH_ALLOW);
    Worker { id, device, queue, storage, outgoing, models: names, engine }.run(drained).await
}

/// What the engine's thread does first.
fn loader(volumes: Vec<Volume>, budget: u64) -> Loader {
    Box::new(move || Ok(Box::new(Shelf::open(volumes, budget)?) as Box<dyn Engine>))
}

/// A model that can be loaded.
fn volume(model: Model, bytes: u64, safety: models::SafetyOptions, config: &WorkerConfig) -> Volume {
    let name = model.name().to_owned();
    let answers_for = model.answers_for.iter().map(|manifest| manifest.name.clone()).collect();
    let engine = EngineConfig { model: model.source, ..config.engine.clone() };
    let load = move || load(&engine, &safety).map_err(engine::load_error);
    Volume { name, answers_for, bytes, load: Box::new(load) }
}

fn load(config: &EngineConfig, safety: &models::SafetyOptions) -> models::Result<Box<dyn Engine>> {
    room::check(config, safety, &Work::default())?;
    let mut pipeline = engine::open(config)?;
    pipeline.set_safety(safety)?;
    tracing::info!(model = %config.model, "safety checker: {}", checker::describe(safety));
    Ok(Box::new(Sd3Engine::new(pipeline, config.t5_tokens)))
}

/// The device as flags and log lines spell it.
pub(crate) fn device_name(device: models::Device) -> String {
    match device {
        models::Device::Cpu => "cpu".into(),
        models::Device::Cuda(ordinal) => format!("cuda:{ordinal}"),
    }
}

/// Reads the parent's orders on a thread of its own; ends the process with the input.
fn obey_input(events: Events, drain: Arc<watch::Sender<bool>>) -> std::io::Result<()> {
    let read = move || {
        for line in std::io::stdin().lock().lines() {
            match line.as_deref() {
                Ok("drain") => drop(drain.send_replace(true)),
                Ok(_) => events.wake_workers(),
                Err(_) => break,
            }
        }
        std::process::exit(ORPHANED);
    };
    std::thread::Builder::new().name("orders".into()).spawn(read)?;
    Ok(())
}

async fn tell_moves(events: Events) {
    let mut moved = events.moved();
    let mut output = tokio::io::stdout();
    while moved.changed().await.is_ok() {
        if output.write_all(b"\n").await.is_err() || output.flush().await.is_err() {
            return; // the input ends with the parent too, and that ends the process
        }
    }
}

async fn beat(queue: Queue, id: String, device: String, state: watch::Receiver<WorkerState>) {
    let mut clock = tokio::time::interval(BEAT);
    loop {
        clock.tick().await;
        let state = *state.borrow();
        if let Err(error) = queue.beat(&id, &device, state).await {
            tracing::warn!(%error, "no beat");
        }
    }
}

/// Resolves when the worker must end with a request in hand: some time after the first signal,
/// at once after the second.
async fn stopped(drain: &watch::Sender<bool>, patience: Duration) {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::warn!("signals cannot be heard");
        return std::future::pending().await;
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    drain.send_replace(true);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tokio::time::sleep(patience) => {}
    }
}
