//! A worker: claims a request, has the engine paint it, stores the files, records the end.
//!
//! The engine runs on a thread of its own and never waits for the database: its steps come over
//! a channel, the order to stop goes back through a flag.

mod engine_thread;
mod process;
mod publish;

pub use engine_thread::EngineThread;
use engine_thread::Event;
pub(crate) use process::device_name;
pub use process::run_process;

use crate::engine::{EngineError, Generated, Picture, Step};
use crate::picture;
use crate::queue::events::signal_or;
use crate::queue::{Claim, Failure, FailureKind, Finish, Level, Queue, QueueError, Verdict};
use crate::request::ImageRequest;
use crate::storage::{Storage, StorageError};
use std::time::Duration;
use tokio::sync::watch;

/// How long an idle worker trusts that nobody forgot to wake it.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// Why a worker had to end.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The queue is gone.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The file storage cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The process cannot be set up.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The engine cannot be trusted any more.
    #[error("the engine failed: {0}")]
    Engine(String),
    /// The model cannot be loaded.
    #[error("{0}")]
    Load(String),
}

/// What a tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Nothing waits.
    Idle,
    /// One request was claimed and brought to an end, or lost to another attempt.
    Worked,
}

/// One worker: an engine between the queue and the storage.
pub struct Worker {
    /// Names this worker in the tables.
    pub id: String,
    /// What it runs on, for people.
    pub device: String,
    /// Where requests come from.
    pub queue: Queue,
    /// Where files go.
    pub storage: Storage,
    /// What paints.
    pub engine: EngineThread,
}

/// How the painting of a claim ended.
enum Painted {
    Pictures(Generated),
    Failed(Failure),
    NotOurs,
}

impl Worker {
    /// Works until told to drain: the request in hand is finished first.
    ///
    /// # Errors
    /// When the worker cannot go on; its claim stays for [`Queue::reclaim`].
    pub async fn run(&mut self, mut drain: watch::Receiver<bool>) -> Result<(), WorkerError> {
        let mut work = self.queue.events().work();
        while !*drain.borrow() {
            work.mark_unchanged();
            if self.tick().await? == Tick::Idle {
                tokio::select! {
                    () = signal_or(&mut work, IDLE_POLL) => {}
                    _ = drain.changed() => {}
                }
            }
        }
        Ok(())
    }

    /// One turn: 1. claims the next request; 2. paints it; 3. stores the files; 4. records the end.
    ///
    /// # Errors
    /// When the worker cannot go on; its claim stays for [`Queue::reclaim`].
    pub async fn tick(&mut self) -> Result<Tick, WorkerError> {
        let Some(claim) = self.queue.claim(&self.id).await? else { return Ok(Tick::Idle) };
        tracing::info!(request = %claim.id, attempt = claim.attempt, "claimed");
        match serde_json::from_value::<ImageRequest>(claim.body.clone()) {
            Ok(request) => self.work_on(&claim, request).await?,
            Err(error) => {
                let message = format!("the stored request cannot be read: {error}");
                self.end(&claim, &failure(FailureKind::Engine, message)).await?;
            }
        }
        Ok(Tick::Worked)
    }

    async fn work_on(&mut self, claim: &Claim, request: ImageRequest) -> Result<(), WorkerError> {
        match self.paint(claim, &request).await? {
            Painted::Pictures(generated) => match publish::publish(self, claim, &request, generated).await {
                Ok(finish) => tracing::info!(request = %claim.id, ?finish, "done"),
                Err(PublishError::Queue(error)) => return Err(error.into()),
                Err(other) => self.end(claim, &failure(FailureKind::Engine, other.to_string())).await?,
            },
            Painted::Failed(failure) => self.end(claim, &failure).await?,
            Painted::NotOurs => tracing::warn!(request = %claim.id, "lost to another attempt"),
        }
        Ok(())
    }

    async fn end(&self, claim: &Claim, failure: &Failure) -> Result<(), WorkerError> {
        let finish: Finish = self.queue.fail(claim, failure).await?;
        tracing::info!(request = %claim.id, kind = failure.kind.word(), ?finish, "{}", failure.message);
        Ok(())
    }

    /// Runs the engine and reports its steps, until it is done or must stop.
    async fn paint(&mut self, claim: &Claim, request: &ImageRequest) -> Result<Painted, WorkerError> {
        let mut work = self.queue.events().work();
        let mut verdict = self.report(claim, &format!("encoding prompt on {}", self.device)).await?;
        let mut job = self.engine.start(request.clone());
        loop {
            match verdict {
                Verdict::Continue { watched } => job.want_previews(watched),
                Verdict::Cancelled | Verdict::Fenced => job.stop(),
            }
            tokio::select! {
                event = job.events.recv() => match event {
                    Some(Event::Step(step)) => verdict = self.report_step(claim, step).await?,
                    Some(Event::Preview(picture)) => self.show(claim, &picture).await?,
                    None => break,
                },
                Ok(()) = work.changed() => verdict = self.queue.verdict(claim).await?,
            }
        }
        let result = job.result().await;
        if let Err(EngineError::Fault(message)) = result {
            self.queue.progress(claim, Level::Error, &format!("engine fault: {message}")).await?;
            return Err(WorkerError::Engine(message));
        }
        Ok(match (verdict, result) {
            (Verdict::Fenced, _) => Painted::NotOurs,
            (Verdict::Cancelled, _) | (_, Err(EngineError::Stopped)) => {
                Painted::Failed(Failure::of(FailureKind::Cancelled))
            }
            (Verdict::Continue { .. }, Ok(generated)) => Painted::Pictures(generated),
            (Verdict::Continue { .. }, Err(EngineError::Request(message))) => {
                Painted::Failed(failure(FailureKind::Invalid, message))
            }
            (Verdict::Continue { .. }, Err(EngineError::Numbers(message) | EngineError::Fault(message))) => {
                Painted::Failed(failure(FailureKind::Engine, message))
            }
        })
    }

    /// Lets those who watch see a preview. It is a few KB: encoding it takes no thread of its own.
    async fn show(&self, claim: &Claim, preview: &Picture) -> Result<(), QueueError> {
        match picture::encode_preview(preview) {
            Ok(bytes) => self.queue.store_preview(claim, &bytes).await,
            Err(error) => {
                tracing::warn!(request = %claim.id, %error, "a preview cannot be encoded");
                Ok(())
            }
        }
    }

    async fn report(&self, claim: &Claim, message: &str) -> Result<Verdict, QueueError> {
        tracing::debug!(request = %claim.id, "{message}");
        self.queue.progress(claim, Level::Info, message).await
    }

    async fn report_step(&self, claim: &Claim, step: Step) -> Result<Verdict, QueueError> {
        let line =
            format!("step {}/{} (sigma {:.4}, {:.2} s)", step.index, step.of, step.sigma, step.seconds);
        let verdict = self.report(claim, &line).await?;
        if step.index == step.of && matches!(verdict, Verdict::Continue { .. }) {
            return self.report(claim, "decoding").await;
        }
        Ok(verdict)
    }
}

/// Why pictures could not be published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the picture cannot be encoded: {0}")]
    Encode(String),
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, detail: None }
}
