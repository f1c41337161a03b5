//! Keeps one worker process per engine running and reclaims the requests of one that died.
//!
//! A worker that sends no sign of life is killed and counts as dead. A device on which workers fail again and again is set
//! aside, while those of other devices go on.

mod backoff;
mod cause;
mod link;
mod set_aside;

use crate::config::{
    EngineConfig, FETCH_ALLOW, ServeConfig, StoreConfig, gpu_order, otlp, safety, shortcuts,
};
use crate::data_dir;
use crate::memory_budget;
use crate::queue::{Lost, Observation, Queue};
use crate::service_manager;
use crate::worker::device_name;
use backoff::Backoff;
use cause::Cause;
use set_aside::Device;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// The server's stage of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Serving.
    Run,
    /// Finishing what runs.
    Drain,
    /// Ending now.
    Now,
}

/// How long the exit of a killed process is waited for: one that hangs in a driver may never exit.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// First and longest pause between attempts to put a worker's claims back.
const RETRY_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// Starts the workers and keeps them running until the stage is [`Stage::Drain`]; returns when
/// the last one is gone.
pub(crate) async fn supervise(
    config: &ServeConfig,
    program: &Path,
    queue: &Queue,
    stage: watch::Receiver<Stage>,
) {
    let names = config.engines.iter().map(|engine| device_name(engine.device));
    let devices: BTreeMap<_, _> = names.map(|name| (name.clone(), Device::new(name, queue))).collect();
    let slots = config.engines.iter().map(|engine| {
        let slot = Slot {
            arguments: arguments(engine, config),
            database: config.store.database.url(),
            data_dir: &config.store.data_dir,
            program,
            queue,
            device: &devices[&device_name(engine.device)],
            drain_timeout: config.drain_timeout,
            worker_timeout: config.worker_timeout,
        };
        slot.keep_running(stage.clone())
    });
    futures_util::future::join_all(slots).await;
}

/// One engine of the configuration, and how its worker process is started.
struct Slot<'a> {
    arguments: Vec<String>,
    database: String,
    data_dir: &'a Path,
    program: &'a Path,
    queue: &'a Queue,
    /// Shared with the other engines on it.
    device: &'a Device<'a>,
    drain_timeout: Duration,
    worker_timeout: Duration,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It exited with success, or the server stopped it.
    Stopped,
    /// It crashed, failed or was killed because it was silent.
    Died(Cause),
}

impl Slot<'_> {
    async fn keep_running(self, mut stage: watch::Receiver<Stage>) {
        let mut backoff = Backoff::default();
        while *stage.borrow() == Stage::Run {
            if let Some(rest) = self.device.rest() {
                tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    _ = stage.changed() => {}
                }
                continue;
            }
            let id = uuid::Uuid::now_v7().to_string();
            match self.spawn(&id) {
                Ok(child) => self.wait_and_reclaim(&id, child, &mut stage).await,
                Err(error) => tracing::error!(%error, "a worker could not be started"),
            }
            let pause = backoff.after_death(Instant::now());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stage.changed() => {}
            }
        }
    }

    /// Waits until a worker has ended, then puts its claims back.
    async fn wait_and_reclaim(&self, id: &str, mut child: Child, stage: &mut watch::Receiver<Stage>) {
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (events, signs) = (self.queue.events().clone(), watch::Sender::new(0));
        let received = signs.subscribe();
        let link = tokio::spawn(link::carry_signals(
            events,
            input,
            output,
            stage.clone(),
            signs,
            self.device.on_finish(),
        ));
        let pid = child.id().unwrap_or_default();
        tracing::info!(worker = id, pid, "worker started");
        let silence = link::silence(received, self.worker_timeout, |silent| {
            match silent {
                true => tracing::warn!(worker = id, "the worker is silent"),
                false => tracing::info!(worker = id, "the worker sends signs of life again"),
            }
            self.queue.set_silent(id, silent);
        });
        let end = self.wait(id, &mut child, silence, stage).await;
        link.abort();
        self.queue.set_silent(id, true); // clients see at once that it is gone
        if let End::Died(cause) = end {
            self.device.record(cause);
        }
        self.put_back(id, end, stage).await;
        self.queue.set_silent(id, false);
    }

    /// Puts a worker's claims back; retries until that succeeds or the server stops.
    async fn put_back(&self, id: &str, end: End, stage: &watch::Receiver<Stage>) {
        let lost = match end {
            End::Stopped => Lost::Stopped(id),
            End::Died(_) => Lost::Died(id),
        };
        let [mut pause, longest] = RETRY_PAUSES;
        loop {
            match self.queue.reclaim(lost).await {
                Ok(done) if done.waiting + done.ended > 0 => {
                    tracing::warn!(worker = id, reclaimed = ?done, "requests of the worker put back");
                    break;
                }
                Ok(_) => break,
                Err(error) if *stage.borrow() == Stage::Run => {
                    tracing::error!(worker = id, %error, "requests of the worker not put back yet");
                }
                Err(error) => {
                    tracing::error!(worker = id, %error, "requests of the worker are put back by the next start");
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
        if matches!(end, End::Died(_))
            && let Err(error) = self.queue.observe(&Observation::worker_restart(self.device.name())).await
        {
            tracing::warn!(%error, "a worker's death was not counted");
        }
    }

    fn spawn(&self, id: &str) -> std::io::Result<Child> {
        let mut command = Command::new(self.program);
        service_manager::conceal(command.as_std_mut());
        command
            .arg("worker")
            .args(&self.arguments)
            .args(["--supervised-as", id])
            .env("LATENTD_DATABASE_URL", &self.database)
            .env_remove("LATENTD_DATABASE_URL_FILE")
            // Its settings are those of this process, which has read the file; the file may have changed.
            .env_remove("LATENTD_CONFIG")
            // The order of this process's checks.
            .envs([gpu_order()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // Ctrl-C must reach the server alone, which drains the worker
            .kill_on_drop(true)
            .spawn()
    }

    /// Waits until the worker has exited, and kills it when it is silent for too long or the server stops.
    async fn wait(
        &self,
        id: &str,
        child: &mut Child,
        silence: impl Future<Output = ()>,
        stage: &mut watch::Receiver<Stage>,
    ) -> End {
        tokio::select! {
            status = child.wait() => return end_of(status),
            () = silence => {
                let limit = self.worker_timeout.as_secs();
                let cause = Cause::of_silence(child.id());
                tracing::error!("the worker gave no sign of life for {limit} s and is killed");
                kill(child).await;
                return End::Died(cause);
            }
            _ = stage.wait_for(|stage| *stage > Stage::Run) => {}
        }
        tokio::select! {
            status = child.wait() => return end_of(status),
            () = tokio::time::sleep(self.drain_timeout) => {}
            _ = stage.wait_for(|stage| *stage > Stage::Drain) => {}
        }
        tracing::warn!("the worker is still busy and is stopped; its request goes back to the queue");
        // So that this does not count as a death.
        if let Err(error) = data_dir::forget_worker(self.data_dir, id) {
            tracing::warn!(%error, "the lock of the worker is not removed");
        }
        kill(child).await;
        End::Stopped
    }
}

async fn kill(child: &mut Child) {
    match tokio::time::timeout(KILL_LIMIT, child.kill()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the worker could not be killed"),
        Err(_) => tracing::error!("the worker was killed and does not end: its device may need a restart"),
    }
}

fn end_of(status: std::io::Result<ExitStatus>) -> End {
    match status {
        Ok(status) if status.success() => End::Stopped,
        Ok(status) => {
            tracing::error!(%status, "the worker died");
            End::Died(Cause::of_exit(status))
        }
        Err(error) => {
            tracing::error!(%error, "the worker's exit status cannot be read");
            End::Died(Cause::Outside)
        }
    }
}

fn arguments(engine: &EngineConfig, config: &ServeConfig) -> Vec<String> {
    let encoders = config.models.iter().find_map(|model| model.location.local()?.text_encoders());
    let encoders = encoders.map(|dir| ("--text-encoders", dir.display().to_string()));
    // Workers find the cache where this process would: below the data directory.
    let EngineConfig {
        device,
        dtype,
        shift,
        t5_tokens,
        shortcuts: left_out,
        t5,
        max_cpu_isa,
        memory_modes,
        memory_check,
        cache: _,
    } = engine;
    let max_cpu_isa = max_cpu_isa.map(|isa| ("--max-cpu-isa", isa.name().to_owned()));
    let shift = shift.map(|shift| ("--shift", shift.to_string()));
    // The database's URL may hold a password, so it is passed in the environment.
    let StoreConfig { data_dir, database: _, files } = &config.store;
    [
        ("--device", device_name(*device)),
        ("--dtype", dtype.name().to_owned()),
        ("--t5-tokens", t5_tokens.to_string()),
        ("--t5", if *t5 { "auto" } else { "off" }.to_owned()),
        ("--memory-mode", memory_modes.name().to_owned()),
        ("--memory-check", if *memory_check { "on" } else { "off" }.to_owned()),
        ("--data-dir", data_dir.display().to_string()),
        ("--storage", files.to_string()),
        ("--log", config.log.log.clone()),
        ("--log-format", config.log.log_format.name().to_owned()),
        ("--memory-budget", memory_budget(engine, config)),
        ("--step-timeout", step_timeout(config.step_timeout)),
    ]
    .into_iter()
    .chain(config.models.iter().map(|model| ("--model", model.to_string())))
    .chain(encoders)
    .chain(shift)
    .chain(max_cpu_isa)
    .chain(shortcuts::flags(left_out))
    .chain(otlp::flags(config.otlp.as_ref()))
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .chain(safety::flags(&config.safety))
    .chain(config.adapters.flags())
    .chain(config.hub.offline.filter(|given| given.starts_with("--")).map(str::to_owned))
    .chain(config.fetch.exceptions().into_iter().flat_map(|allowed| [FETCH_ALLOW.to_owned(), allowed]))
    .collect()
}

/// The `--memory-budget` of a worker. Workers that share a device share its memory.
fn memory_budget(engine: &EngineConfig, config: &ServeConfig) -> String {
    let sharers = config.engines.iter().filter(|other| other.device == engine.device).count();
    let bytes = memory_budget::bytes(config.memory_budget, engine.device, sharers);
    bytes.map_or_else(|| "auto".into(), |bytes| bytes.to_string()) // the worker can ask its device
}

fn step_timeout(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "auto".into(), |limit| limit.as_secs().to_string())
}
