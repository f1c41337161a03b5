//! A worker: claims a request, has the engine generate it, stores the files, records the end.
//!
//! The engine runs on a thread of its own and never waits for the database: its steps come over
//! a channel, the order to stop goes back through a flag. It does not wait for files either: while
//! the images of one request are finished and published, the next one is generated.
//!
//! A request that is tried again has the worker to itself: if the worker dies once more, no other request is to blame,
//! and none suffers.

mod begin;
mod engine_thread;
mod generate;
mod limits;
mod patience;
mod process;
mod publish;

pub use engine_thread::EngineThread;
use generate::Work;
pub use limits::StepLimits;
use limits::run_time;
use patience::patiently;
pub use process::run_process;
pub(crate) use process::{MOVED, device_name};

use crate::engine::{EngineError, Image, InitImage};
use crate::fault::Fault;
use crate::identity::IdentityError;
use crate::queue::events::signal_or;
use crate::queue::{Claim, Failure, FailureKind, Finish, Level, Queue, QueueError, Verdict};
use crate::storage::{Storage, StorageError};
use latentd_egress::Client;
use latentd_request::{BeginFrom, ImageRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// How long an idle worker trusts that nobody forgot to wake it.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// How often a request whose image is yet to come is seen to live, and looked after.
const FETCH_BEAT: Duration = Duration::from_secs(5);

/// Requests that a worker has in hand at most: one is generated, one is finished.
const IN_HAND: u32 = 2;

/// What is left to a request that is being finished when the engine fails with the next one.
const LAST_FINISH: Duration = Duration::from_secs(60);

/// How long a request is left alone whose model cannot be loaded.
const REST: Duration = Duration::from_secs(60);

/// Why a worker had to end.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The queue is gone.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The file storage cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file storage is that of another database.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The process cannot be set up.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The engine cannot be trusted any more.
    #[error("the engine failed: {0}")]
    Engine(String),
    /// The engine is silent: the process cannot end in order, for it would wait for the engine.
    #[error("the engine is hung: no sign of life for {} s while {doing}", limit.as_secs_f64())]
    Hung {
        /// How long it was silent.
        limit: Duration,
        /// What it was to do.
        doing: &'static str,
    },
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
    /// Fetches initial images.
    pub outgoing: Client,
    /// The models that it generates with: requests for others are left alone.
    pub models: Vec<String>,
    /// The thread that runs the engine.
    pub engine: EngineThread,
    /// How long the engine may be silent.
    pub limits: StepLimits,
}

/// A claim whose images are generated, but neither finished nor published.
struct Unfinished {
    claim: Claim,
    request: ImageRequest,
    work: Work,
}

/// A request on its way from the engine to its end, and its share of what a worker may have in hand.
type InHand = (Unfinished, OwnedSemaphorePermit);

impl Worker {
    /// Works until told to drain: the requests in hand are finished first.
    ///
    /// # Errors
    /// When the worker cannot go on; its claims stay for [`Queue::reclaim`].
    pub async fn run(&mut self, drain: watch::Receiver<bool>) -> Result<(), WorkerError> {
        let (pending, unfinished) = mpsc::channel(IN_HAND as usize);
        let mut finish = std::pin::pin!(self.finish_all(unfinished));
        let ended = tokio::select! {
            ended = self.generate_all(drain, pending) => ended,
            failed = &mut finish => return failed,
        };
        // What fails while generating does not take the request before with it.
        match ended {
            Ok(()) => finish.await,
            Err(error) => match tokio::time::timeout(LAST_FINISH, finish).await {
                Ok(Err(other)) => Err(other),
                Ok(Ok(())) | Err(_) => Err(error),
            },
        }
    }

    /// One turn without overlap: claims the next request, generates it, finishes it.
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
        pending: mpsc::Sender<InHand>,
    ) -> Result<(), WorkerError> {
        let in_hand = Arc::new(Semaphore::new(IN_HAND as usize));
        let mut work = self.queue.events().work();
        loop {
            // A place before a claim: no third request is held back here.
            let Ok(mut place) = in_hand.clone().acquire_owned().await else { return Ok(()) };
            if *drain.borrow() {
                return Ok(());
            }
            work.mark_unchanged();
            let Some(claim) = self.claim().await? else {
                tokio::select! {
                    () = signal_or(&mut work, IDLE_POLL) => {}
                    _ = drain.changed() => {}
                }
                continue;
            };
            if is_second_try(&claim) {
                let Ok(others) = in_hand.clone().acquire_many_owned(IN_HAND - 1).await else { return Ok(()) };
                place.merge(others);
            }
            if let Some(unfinished) = self.generate_claim(claim).await?
                && pending.send((unfinished, place)).await.is_err()
            {
                return Ok(());
            }
        }
    }

    async fn finish_all(&self, mut unfinished: mpsc::Receiver<InHand>) -> Result<(), WorkerError> {
        while let Some((next, _place)) = unfinished.recv().await {
            self.finish(next).await?;
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Option<Claim>, QueueError> {
        let claim = patiently(|| self.queue.claim(&self.id, &self.models)).await?;
        if let Some(Claim { id, attempt, .. }) = &claim {
            tracing::info!(request = %id, attempt, "claimed");
        }
        Ok(claim)
    }

    /// Generates a request, unless it cannot be used or nobody wants it any more.
    async fn generate_claim(&self, mut claim: Claim) -> Result<Option<Unfinished>, WorkerError> {
        let verdict = patiently(|| self.queue.charge(&claim)).await?;
        if !matches!(verdict, Verdict::Continue { .. }) {
            return self.settle(&claim, verdict, Err(EngineError::Stopped)).await;
        }
        let mut request = match serde_json::from_value::<ImageRequest>(claim.body.take()) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("the stored request cannot be read: {error}");
                self.end(&claim, &failure(FailureKind::Engine, message)).await?;
                return Ok(None);
            }
        };
        // What an image was made of is dropped here: it may be megabytes.
        let begin = match request.begin.take() {
            None => None,
            Some(from) => {
                let Some(image) = self.fetch(&claim, &from).await? else { return Ok(None) };
                begin::size(&mut request, &from, &image);
                Some(InitImage { image, strength: from.strength })
            }
        };
        let work = self.generate(&claim, &request, begin).await?;
        Ok(work.map(|work| Unfinished { claim, request, work }))
    }

    /// Fetches the initial image of a request, unless it cannot be used or nobody wants it any more.
    async fn fetch(&self, claim: &Claim, from: &BeginFrom) -> Result<Option<Image>, WorkerError> {
        let mut work = self.queue.events().work();
        let mut verdict = self.report(claim, "fetching the initial image").await?;
        let mut load = std::pin::pin!(patiently(|| begin::load(self, &from.source)));
        let mut clock = tokio::time::interval(FETCH_BEAT);
        clock.reset();
        while matches!(verdict, Verdict::Continue { .. }) {
            tokio::select! {
                loaded = &mut load => return match loaded {
                    Ok(image) => Ok(Some(image)),
                    Err(why) => self.end(claim, &why.failure()).await.map(|()| None),
                },
                Ok(()) = work.changed() => verdict = self.verdict(claim).await?,
                _ = clock.tick() => verdict = self.report(claim, "still fetching the image").await?,
            }
        }
        self.settle(claim, verdict, Err(EngineError::Stopped)).await
    }

    /// Makes the images, stores the files and records the end.
    async fn finish(&self, unfinished: Unfinished) -> Result<(), WorkerError> {
        let Unfinished { claim, request, work: Work { pending, load } } = unfinished;
        let limit = self.limits.first(&request);
        let finished = tokio::select! {
            finished = engine_thread::finish(pending) => finished,
            () = run_time(limit) => return Err(self.hung(&claim, limit, "decoding").await),
        };
        let verdict = self.verdict(&claim).await?;
        let Some(generated) = self.settle(&claim, verdict, finished).await? else { return Ok(()) };
        match publish::publish(self, &claim, &request, generated, load).await {
            Ok(finish) => tracing::info!(request = %claim.id, ?finish, "done"),
            Err(PublishError::Queue(error)) => return Err(error.into()),
            Err(other) => self.end(&claim, &failure(FailureKind::Engine, other.to_string())).await?,
        }
        Ok(())
    }

    /// Returns what a claim goes on with; ends it where there is nothing, or nobody who wants it.
    async fn settle<T>(
        &self,
        claim: &Claim,
        verdict: Verdict,
        result: Result<T, EngineError>,
    ) -> Result<Option<T>, WorkerError> {
        let failure = match (verdict, result) {
            (_, Err(EngineError::Fault(message))) => {
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
            (Verdict::Continue { .. }, Err(EngineError::Numbers(message))) => {
                failure(FailureKind::Engine, message)
            }
            (Verdict::Continue { .. }, Err(EngineError::Load(message))) => {
                return self.put_off(claim, &message).await.map(|()| None);
            }
        };
        self.end(claim, &failure).await?;
        Ok(None)
    }

    /// The engine went silent with this request.
    async fn hung(&self, claim: &Claim, limit: Duration, doing: &'static str) -> WorkerError {
        let error = WorkerError::Hung { limit, doing };
        self.blame(claim, &error.to_string()).await;
        error
    }

    /// Charges the worker's end to a request, as far as the queue answers: the worker ends all the same.
    async fn blame(&self, claim: &Claim, message: &str) {
        let told = self.queue.progress(claim, Level::Error, message).await;
        if let Err(error) = told.and(self.queue.charge(claim).await) {
            tracing::warn!(request = %claim.id, %error, "{message}");
        }
    }

    async fn verdict(&self, claim: &Claim) -> Result<Verdict, QueueError> {
        patiently(|| self.queue.verdict(claim)).await
    }

    /// The machine cannot run this request now: it keeps its place, and others go on meanwhile.
    async fn put_off(&self, claim: &Claim, why: &str) -> Result<(), WorkerError> {
        let line = format!("{why}: the request is tried again in {} s", REST.as_secs());
        patiently(|| self.queue.progress(claim, Level::Warn, &line)).await?;
        patiently(|| self.queue.rest(claim, REST)).await?;
        let finish: Finish = patiently(|| self.queue.give_back(claim)).await?;
        tracing::warn!(request = %claim.id, ?finish, "{line}");
        Ok(())
    }

    async fn end(&self, claim: &Claim, failure: &Failure) -> Result<(), WorkerError> {
        let finish: Finish = patiently(|| self.queue.fail(claim, failure)).await?;
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

/// Whether a worker had the request before.
fn is_second_try(claim: &Claim) -> bool {
    claim.attempt > 1
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, detail: None }
}
