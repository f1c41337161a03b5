//! The worker loop: claims a request, runs the engine, stores the files, records the result.
//!
//! The engine runs on a thread of its own and never waits for the database: it sends its progress over a channel and
//! reads a stop flag. It does not wait for files either: while the images of one request are decoded and published, the
//! next request is generated.
//!
//! A request that is tried again has the worker to itself: if the worker dies once more, no other request is to blame,
//! and none suffers.

mod adapters;
mod attempt;
mod controlnet;
mod decode;
mod engine_thread;
mod generate;
mod held;
mod init_image;
mod ip_adapter;
mod limits;
mod process;
mod publish;
mod retry;
mod stored;
mod while_claimed;

pub use adapters::forget_ended_uploads;
use attempt::Attempt;
pub use engine_thread::EngineThread;
use generate::Work;
pub use held::HeldClaims;
pub use limits::StepLimits;
use limits::run_time;
pub use process::run_process;
pub(crate) use process::{CHANGED, ENGINE_FAILED, FINISHED, device_name};
use retry::with_retry;

use crate::adapters::AdapterFiles;
use crate::engine::EngineError;
use crate::fault::Fault;
use crate::identity::IdentityError;
use crate::queue::events::signal_or;
use crate::queue::{Claim, Failure, FailureKind, Finish, Level, Queue, QueueError, Verdict};
use crate::storage::{Storage, StorageError};
use latentd_egress::Client;
use latentd_hub::HubConfig;
use latentd_request::{AdapterFlaw, ImageRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// How long an idle worker waits for a wake-up before it looks for requests by itself.
pub const IDLE_POLL: Duration = Duration::from_secs(1);

/// How often the lease of a request is renewed while it waits for something else than its next step: for its initial image,
/// or for another request's steps.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Requests that a worker works on at most: one is generated, one is decoded and published.
const MAX_IN_PROGRESS: u32 = 2;

/// How long publishing of a request may still take after the engine has failed with the next one.
const FINISH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a request waits before the next attempt when its model cannot be loaded.
const LOAD_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The file storage cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file storage belongs to another database.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The process cannot be set up.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The engine cannot be trusted any more.
    #[error("the engine failed: {0}")]
    Engine(String),
    /// The engine reports no progress: an orderly exit would wait for it, so the process is aborted.
    #[error("the engine is hung: no sign of life for {} s while {doing}", limit.as_secs_f64())]
    Hung {
        /// How long it reported nothing.
        limit: Duration,
        /// What it was doing.
        doing: &'static str,
    },
    /// The model cannot be loaded.
    #[error("{0}")]
    Load(String),
}

/// What a tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// No request waits.
    Idle,
    /// One request was claimed and completed, or lost to another attempt.
    Worked,
}

/// One worker: an engine between the queue and the storage.
pub struct Worker {
    /// Names this worker in the tables.
    pub id: String,
    /// The device's name, for display.
    pub device: String,
    /// Requests are claimed here.
    pub queue: Queue,
    /// Image files are stored here.
    pub storage: Storage,
    /// Fetches images and adapters.
    pub outgoing: Client,
    /// LoRA adapters on this machine.
    pub adapters: AdapterFiles,
    /// Where others may be fetched from.
    pub hub: HubConfig,
    /// Names of the models that it serves; requests for other models are not claimed.
    pub models: Vec<String>,
    /// The thread that runs the engine.
    pub engine: EngineThread,
    /// How long the engine may go without reporting progress.
    pub limits: StepLimits,
    /// What it works on.
    pub held: HeldClaims,
    /// How long it waits for a wake-up while it is idle, [`IDLE_POLL`] but in tests.
    pub idle_poll: Duration,
}

/// A claim whose latents are denoised, but whose images are neither decoded nor published.
struct Unfinished {
    claim: Attempt,
    request: ImageRequest,
    work: Work,
}

/// A request that is to be decoded and published, with its permit of [`MAX_IN_PROGRESS`].
type InProgress = (Unfinished, OwnedSemaphorePermit);

impl Worker {
    /// Claims and generates requests until `drain`; those in progress are finished first.
    ///
    /// # Errors
    /// When the worker cannot go on; its claims stay for [`Queue::reclaim`].
    pub async fn run(&mut self, drain: watch::Receiver<bool>) -> Result<(), WorkerError> {
        let (pending, unfinished) = mpsc::channel(MAX_IN_PROGRESS as usize);
        let mut finish = std::pin::pin!(self.finish_all(unfinished));
        let ended = tokio::select! {
            ended = self.generate_all(drain, pending) => ended,
            failed = &mut finish => return failed,
        };
        // An engine that fails with one request must not lose the one before it, which is being published.
        match ended {
            Ok(()) => finish.await,
            Err(error) => match tokio::time::timeout(FINISH_TIMEOUT, finish).await {
                Ok(Err(other)) => Err(other),
                Ok(Ok(())) | Err(_) => Err(error),
            },
        }
    }

    /// Claims the next request, generates and publishes it, without overlap.
    ///
    /// # Errors
    /// When the worker cannot go on; its claim stays for [`Queue::reclaim`].
    pub async fn tick(&mut self) -> Result<Tick, WorkerError> {
        let Some(claim) = self.claim().await? else { return Ok(Tick::Idle) };
        if let Some(unfinished) = self.generate_claim(claim).await? {
            self.finish(unfinished).await?;
        }
        Ok(Tick::Worked)
    }

    async fn generate_all(
        &self,
        mut drain: watch::Receiver<bool>,
        pending: mpsc::Sender<InProgress>,
    ) -> Result<(), WorkerError> {
        let in_progress = Arc::new(Semaphore::new(MAX_IN_PROGRESS as usize));
        let mut work = self.queue.events().work();
        loop {
            // The permit comes before the claim, so that no third request is claimed while two are in progress.
            let Ok(mut permit) = in_progress.clone().acquire_owned().await else { return Ok(()) };
            if *drain.borrow() {
                return Ok(());
            }
            work.mark_unchanged();
            let Some(claim) = self.claim().await? else {
                tokio::select! {
                    () = signal_or(&mut work, self.idle_poll) => {}
                    _ = drain.changed() => {}
                }
                continue;
            };
            if is_second_try(&claim) {
                let Ok(others) = in_progress.clone().acquire_many_owned(MAX_IN_PROGRESS - 1).await else {
                    return Ok(());
                };
                permit.merge(others);
            }
            if let Some(unfinished) = self.generate_claim(claim).await?
                && pending.send((unfinished, permit)).await.is_err()
            {
                return Ok(());
            }
        }
    }

    async fn finish_all(&self, mut unfinished: mpsc::Receiver<InProgress>) -> Result<(), WorkerError> {
        while let Some((next, _permit)) = unfinished.recv().await {
            self.finish(next).await?;
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Option<Attempt>, QueueError> {
        let claim = with_retry(|| self.queue.claim(&self.id, &self.models)).await?;
        Ok(claim.map(|claim| {
            tracing::info!(request = %claim.id, attempt = claim.attempt, "claimed");
            Attempt::begin(claim, self)
        }))
    }

    /// Generates a claimed request; `None` when it has ended: failed, cancelled or lost to another attempt.
    async fn generate_claim(&self, mut claim: Attempt) -> Result<Option<Unfinished>, WorkerError> {
        let verdict = with_retry(|| self.queue.charge(&claim)).await?;
        if !matches!(verdict, Verdict::Continue { .. }) {
            return self.settle(&claim, verdict, Err(EngineError::Stopped)).await;
        }
        let mut request = match serde_json::from_value::<ImageRequest>(claim.claim.body.take()) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("the stored request cannot be read: {error}");
                self.end(&claim, &failure(FailureKind::Engine, message)).await?;
                return Ok(None);
            }
        };
        let Some((inputs, files)) = self.fetch_inputs(&claim, &mut request).await? else { return Ok(None) };
        let work = self.generate(&claim, &request, inputs).await?;
        drop(files); // the engine has read them
        Ok(work.map(|work| Unfinished { claim, request, work }))
    }

    /// Decodes the images, stores the files and records the result.
    async fn finish(&self, unfinished: Unfinished) -> Result<(), WorkerError> {
        let Unfinished { claim, request, work: Work { pending, load } } = unfinished;
        let Some(generated) = self.decode(&claim, &request, pending).await? else { return Ok(()) };
        match publish::publish(self, &claim, &request, generated, load).await {
            Ok(finish) => tracing::info!(request = %claim.id, ?finish, "done"),
            Err(PublishError::Queue(error)) => return Err(error.into()),
            Err(other) => self.end(&claim, &failure(FailureKind::Engine, other.to_string())).await?,
        }
        Ok(())
    }

    /// Returns the result that a claim goes on with. Otherwise the claim is ended here: failed, cancelled, put off, or left
    /// to the attempt that took it over.
    async fn settle<T>(
        &self,
        claim: &Attempt,
        verdict: Verdict,
        result: Result<T, EngineError>,
    ) -> Result<Option<T>, WorkerError> {
        let failure = match (verdict, result) {
            (_, Err(EngineError::Fault(message))) => {
                claim.span.fail(&message);
                self.blame(claim, &format!("engine fault: {message}")).await;
                return Err(WorkerError::Engine(message));
            }
            (Verdict::Fenced, _) => {
                tracing::warn!(request = %claim.id, "lost to another attempt");
                return Ok(None);
            }
            (Verdict::Cancelled, _) | (_, Err(EngineError::Stopped)) => Failure::of(FailureKind::Cancelled),
            (Verdict::Continue { .. }, Ok(value)) => return Ok(Some(value)),
            (Verdict::Continue { .. }, Err(EngineError::Request(message))) => {
                failure(FailureKind::Invalid, message)
            }
            (Verdict::Continue { .. }, Err(EngineError::Adapter { index, message })) => {
                adapters::failure(FailureKind::Lora, index, AdapterFlaw::Unusable, message)
            }
            (Verdict::Continue { .. }, Err(EngineError::ControlNet(message))) => {
                adapters::failure(FailureKind::ControlNet, None, AdapterFlaw::Unusable, message)
            }
            (Verdict::Continue { .. }, Err(EngineError::IpAdapter(message))) => {
                adapters::failure(FailureKind::IpAdapter, None, AdapterFlaw::Unusable, message)
            }
            (Verdict::Continue { .. }, Err(EngineError::ImageEncoder(message))) => {
                adapters::failure(FailureKind::ImageEncoder, None, AdapterFlaw::Unusable, message)
            }
            (Verdict::Continue { .. }, Err(EngineError::Numbers(message))) => {
                failure(FailureKind::Engine, message)
            }
            (Verdict::Continue { .. }, Err(EngineError::OutOfMemory(message))) => {
                failure(FailureKind::OutOfMemory, message)
            }
            (Verdict::Continue { .. }, Err(EngineError::Load(message))) => {
                return self.put_off(claim, &message).await.map(|()| None);
            }
        };
        self.end(claim, &failure).await?;
        Ok(None)
    }

    /// Records that the engine hangs with this request.
    async fn hung(&self, claim: &Attempt, limit: Duration, doing: &'static str) -> WorkerError {
        let error = WorkerError::Hung { limit, doing };
        claim.span.fail(&error.to_string());
        self.blame(claim, &error.to_string()).await;
        error
    }

    /// Charges the worker's end to a request. The worker ends all the same where the queue does not answer.
    async fn blame(&self, claim: &Claim, message: &str) {
        let logged = self.queue.progress(claim, Level::Error, message).await;
        if let Err(error) = logged.and(self.queue.charge(claim).await) {
            tracing::warn!(request = %claim.id, %error, "{message}");
        }
    }

    async fn verdict(&self, claim: &Claim) -> Result<Verdict, QueueError> {
        with_retry(|| self.queue.verdict(claim)).await
    }

    /// Gives back a request that this machine cannot run now; it keeps its place in the queue.
    async fn put_off(&self, claim: &Claim, why: &str) -> Result<(), WorkerError> {
        let line = format!("{why}: the request is tried again in {} s", LOAD_RETRY_DELAY.as_secs());
        with_retry(|| self.queue.progress(claim, Level::Warn, &line)).await?;
        with_retry(|| self.queue.put_off(claim, LOAD_RETRY_DELAY)).await?;
        let finish: Finish = with_retry(|| self.queue.give_back(claim)).await?;
        tracing::warn!(request = %claim.id, ?finish, "{line}");
        Ok(())
    }

    async fn end(&self, claim: &Attempt, failure: &Failure) -> Result<(), WorkerError> {
        claim.failed(failure);
        let finish: Finish = with_retry(|| self.queue.fail(claim, failure)).await?;
        tracing::info!(request = %claim.id, kind = failure.kind.word(), ?finish, "{}", failure.message);
        Ok(())
    }
}

/// Why images could not be published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the image cannot be encoded: {0}")]
    Encode(String),
}

impl Fault for PublishError {
    fn is_machines(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_machines(),
            Self::Storage(error) => error.is_machines(),
            Self::Encode(_) => false,
        }
    }
}

/// Whether the request was claimed before.
fn is_second_try(claim: &Claim) -> bool {
    claim.attempt > 1
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, detail: None }
}
