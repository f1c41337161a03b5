//! Keeps one worker process per engine alive and puts back what a dead one had in hand.

use crate::budget;
use crate::config::{EngineConfig, FETCH_ALLOW, ServeConfig, StoreConfig, safety, shortcuts};
use crate::queue::{Events, Lost, Observation, Queue, QueueError};
use crate::worker::device_name;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

/// What the whole server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Serving.
    Run,
    /// Finishing what runs.
    Drain,
    /// Ending now.
    Now,
}

/// Pauses before a dead worker is started again.
const BACKOFF_S: [u64; 6] = [0, 1, 2, 5, 10, 30];

/// A worker that lived this long starts the pauses anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// Starts the workers and keeps them running until the stage is [`Stage::Drain`]; returns when
/// the last one is gone.
pub(crate) async fn supervise(
    config: &ServeConfig,
    program: &Path,
    queue: &Queue,
    stage: watch::Receiver<Stage>,
) {
    let slots = config.engines.iter().map(|engine| {
        let slot = Slot {
            arguments: arguments(engine, config),
            program,
            queue,
            device: device_name(engine.device),
            drain_timeout: config.drain_timeout,
        };
        slot.keep(stage.clone())
    });
    futures_util::future::join_all(slots).await;
}

/// One engine's place; workers come and go in it.
struct Slot<'a> {
    arguments: Vec<String>,
    program: &'a Path,
    queue: &'a Queue,
    device: String,
    drain_timeout: Duration,
}

impl Slot<'_> {
    async fn keep(self, mut stage: watch::Receiver<Stage>) {
        let mut deaths = 0;
        while *stage.borrow() == Stage::Run {
            let started = Instant::now();
            if let Err(error) = self.one_life(&mut stage).await {
                tracing::error!(%error, "a worker could not be started or its requests put back");
            }
            deaths = if started.elapsed() > HEALTHY { 0 } else { deaths };
            let pause = BACKOFF_S[deaths.min(BACKOFF_S.len() - 1)];
            deaths += 1;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(pause)) => {}
                _ = stage.changed() => {}
            }
        }
    }

    /// Starts a worker, waits for its end, and puts its request back.
    async fn one_life(&self, stage: &mut watch::Receiver<Stage>) -> Result<(), SlotError> {
        let id = uuid::Uuid::now_v7().to_string();
        let mut child = self.spawn(&id)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let bridge = tokio::spawn(carry_signals(self.queue.events().clone(), input, output, stage.clone()));
        let pid = child.id().unwrap_or_default();
        tracing::info!(worker = id, pid, "worker started");
        let on_purpose = self.wait(&mut child, stage).await?;
        bridge.abort();
        let lost = if on_purpose {
            Lost::Stopped(&id)
        } else {
            self.queue.observe(&Observation::worker_restart(&self.device)).await?;
            Lost::Died(&id)
        };
        self.queue.forget_worker(&id).await?;
        let reclaimed = self.queue.reclaim(lost).await?;
        if reclaimed.waiting + reclaimed.ended > 0 {
            tracing::warn!(worker = id, ?reclaimed, "requests of the worker put back");
        }
        Ok(())
    }

    fn spawn(&self, id: &str) -> std::io::Result<Child> {
        Command::new(self.program)
            .arg("worker")
            .args(&self.arguments)
            .args(["--supervised-as", id])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // a Ctrl-C on the terminal is for the server, which drains the worker
            .kill_on_drop(true)
            .spawn()
    }

    /// Waits for the worker's end; `true` when it ended because it was told to.
    async fn wait(&self, child: &mut Child, stage: &mut watch::Receiver<Stage>) -> std::io::Result<bool> {
        tokio::select! {
            status = child.wait() => return Ok(said(status?)),
            _ = stage.wait_for(|stage| *stage > Stage::Run) => {}
        }
        tokio::select! {
            status = child.wait() => return Ok(said(status?)),
            () = tokio::time::sleep(self.drain_timeout) => {}
            _ = stage.wait_for(|stage| *stage > Stage::Drain) => {}
        }
        tracing::warn!("the worker is still busy and is stopped; its request goes back to the queue");
        child.kill().await?;
        Ok(true)
    }
}

/// Why a slot could not do its work this time.
#[derive(Debug, thiserror::Error)]
enum SlotError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

fn said(status: ExitStatus) -> bool {
    if !status.success() {
        tracing::error!(%status, "the worker died");
    }
    status.success()
}

/// Wakes the worker when work comes, tells it to drain, and hears when something moved.
async fn carry_signals(
    events: Events,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    mut stage: watch::Receiver<Stage>,
) {
    let (Some(mut input), Some(mut output)) = (input, output) else { return };
    let mut work = events.work();
    let mut heard = [0; 64];
    loop {
        let order: &[u8] = tokio::select! {
            Ok(()) = work.changed() => b"\n",
            Ok(()) = stage.changed() => b"drain\n",
            read = output.read(&mut heard) => match read {
                Ok(1..) => {
                    events.wake_waiters();
                    continue;
                }
                _ => return,
            },
            else => return,
        };
        if input.write_all(order).await.is_err() {
            return;
        }
    }
}

fn arguments(engine: &EngineConfig, config: &ServeConfig) -> Vec<String> {
    let encoders = config.models.iter().find_map(|model| model.source.text_encoders());
    let encoders = encoders.map(|dir| ("--text-encoders", dir.display().to_string()));
    // Workers find the cache where this process would: below the data directory.
    // Each names its models itself: the engine's is the first of them.
    let EngineConfig { model: _, device, dtype, t5_tokens, shortcuts: left_out, t5, memory_check, cache: _ } =
        engine;
    let StoreConfig { data_dir, database, files } = &config.store;
    [
        ("--device", device_name(*device)),
        ("--dtype", dtype.name().to_owned()),
        ("--t5-tokens", t5_tokens.to_string()),
        ("--t5", if *t5 { "auto" } else { "off" }.to_owned()),
        ("--memory-check", if *memory_check { "on" } else { "off" }.to_owned()),
        ("--data-dir", data_dir.display().to_string()),
        ("--database-url", format!("sqlite:{}", database.display())),
        ("--storage", files.display().to_string()),
        ("--log", config.log.clone()),
        ("--memory-budget", memory_budget(engine, config)),
    ]
    .into_iter()
    .chain(config.models.iter().map(|model| ("--model", model.to_string())))
    .chain(encoders)
    .chain(shortcuts::flags(left_out))
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .chain(safety::flags(&config.safety))
    .chain(config.fetch.exceptions().into_iter().flat_map(|allowed| [FETCH_ALLOW.to_owned(), allowed]))
    .collect()
}

/// What a worker's models may take. Those that share a device share its memory.
fn memory_budget(engine: &EngineConfig, config: &ServeConfig) -> String {
    let sharers = config.engines.iter().filter(|other| other.device == engine.device).count();
    let bytes = budget::bytes(config.memory_budget, engine.device, sharers);
    bytes.map_or_else(|| "auto".into(), |bytes| bytes.to_string()) // the worker knows more of its device
}
