//! Workers over the server's queue.

use super::{Scripted, Server, every_model};
use latentd::adapters::{self, AdapterCache, AdapterFiles};
use latentd::config::HubConfig;
use latentd::engine::Engine;
use latentd::worker::{EngineThread, HeldClaims, IDLE_POLL, StepLimits, Tick, Worker, WorkerError};
use latentd_egress::{Client, Egress};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

impl Server {
    /// A worker around an engine.
    pub(crate) async fn worker(&self, name: &str, engine: impl Engine + 'static) -> Worker {
        let engine = EngineThread::load(Box::new(|| Ok(Box::new(engine)))).await.expect("a loaded engine");
        Worker {
            id: name.into(),
            device: "test".into(),
            queue: self.queue.clone(),
            storage: self.storage.clone(),
            adapters: self.adapters(),
            hub: hub_of(self.directory.path()),
            outgoing: Client::new(Egress::default(), "--fetch-allow"),
            models: every_model(),
            engine,
            limits: StepLimits::default(),
            held: HeldClaims::default(),
            idle_poll: IDLE_POLL,
        }
    }

    /// The LoRA adapters of a worker: fetched ones of at most 1 MB, of which 4 MB are kept.
    pub(crate) fn adapters(&self) -> AdapterFiles {
        let folder = adapters::folder(self.directory.path());
        let cache = AdapterCache::open(&folder, 4_000_000).expect("a folder");
        let (named, controlnets, ip_adapters) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        AdapterFiles { named, controlnets, ip_adapters, cache, max_bytes: 1_000_000 }
    }

    /// A worker with connections of its own to the database, as in a process of its own.
    pub(crate) async fn worker_apart(&self, name: &str, engine: impl Engine + 'static) -> Worker {
        let queue = self.open_again().await;
        Worker { queue, ..self.worker(name, engine).await }
    }

    /// Generates whatever waits.
    pub(crate) async fn generate_all(&self) {
        tick_until_idle(&mut self.worker("worker", Scripted::grey()).await).await;
    }
}

/// A hub that is not called, with its cache in a folder.
pub(crate) fn hub_of(folder: &Path) -> HubConfig {
    HubConfig {
        endpoint: "http://hub.invalid".parse().expect("a URL"),
        cache: folder.join("hub"),
        token: None,
        token_path: folder.join("token"),
        revision: "main".into(),
        offline: Some("--offline"),
        stall: Duration::from_secs(5),
        backoff: Duration::from_millis(10),
    }
}

/// Generates whatever waits with this worker.
pub(crate) async fn tick_until_idle(worker: &mut Worker) {
    while worker.tick().await.expect("a worker that goes on") == Tick::Worked {}
}

/// A worker that runs until it is drained.
pub(crate) struct RunningWorker {
    drain: watch::Sender<bool>,
    task: JoinHandle<Result<(), WorkerError>>,
}

impl RunningWorker {
    pub(crate) fn start(mut worker: Worker) -> Self {
        let (drain, drained) = watch::channel(false);
        Self { drain, task: tokio::spawn(async move { worker.run(drained).await }) }
    }

    /// Has it claim nothing more.
    pub(crate) fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) -> Result<(), WorkerError> {
        self.task.await.expect("no panic")
    }

    /// Drains it and waits until it has ended.
    pub(crate) async fn drained(self) {
        self.drain();
        self.ended().await.expect("a clean end");
    }

    /// Ends it as `kill -9` does: its claims stay as they are.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}
