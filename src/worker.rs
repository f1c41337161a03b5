//! A worker: claims a request, has the engine paint it, stores the files, records the end.
//!
//! The engine runs on a thread of its own and never waits for the database: its steps come over
//! a channel, the order to stop goes back through a flag. It does not wait for files either: while
//! the pictures of one request are finished and published, the next one is painted.

mod begin;
mod engine_thread;
mod paint;
mod patience;
mod process;
mod publish;

pub use engine_thread::EngineThread;
use paint::Work;
use patience::patiently;
pub(crate) use process::device_name;
pub use process::run_process;

use crate::engine::{Begin, EngineError, Picture};
use crate::fault::Fault;
use crate::identity::IdentityError;
use crate::outgoing::Outgoing;
use crate::queue::events::signal_or;
use crate::queue::{Claim, Failure, FailureKind, Finish, Level, Queue, QueueError, Verdict};
use crate::request::{BeginFrom, ImageRequest};
use crate::storage::{Storage, StorageError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long an idle worker trusts that nobody forgot to wake it.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// How often a request whose picture is yet to come is seen to live, and looked after.
const FETCH_BEAT: Duration = Duration::from_secs(5);

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
    /// Fetches what requests begin from.
    pub outgoing: Outgoing,
    /// The models that it paints with: requests for others are left alone.
    pub models: Vec<String>,
    /// What paints.
    pub engine: EngineThread,
}

/// A claim whose pictures are painted, but neither finished nor published.
struct Unfinished {
    claim: Claim,
    request: ImageRequest,
    work: Work,
}

/// What became of the request that was next.
enum Next {
    /// There is none.
    Nothing,
    /// It is over, or lost to another attempt.
    Ended,
    Painted(Box<Unfinished>),
}

impl Worker {
    /// Works until told to drain: the requests in hand are finished first.
    ///
    /// # Errors
    /// When the worker cannot go on; its claims stay for [`Queue::reclaim`].
    pub async fn run(&mut self, drain: watch::Receiver<bool>) -> Result<(), WorkerError> {
        let (painted, unfinished) = mpsc::channel(1);
        // What fails while painting does not take the request before with it.
        let paint = async { Ok(self.paint_all(drain, painted).await) };
        let (painted, ()) = tokio::try_join!(paint, self.finish_all(unfinished))?;
        painted
    }

    /// One turn without overlap: claims the next request, paints it, finishes it.
    ///
    /// # Errors
    /// When the worker cannot go on; its claim stays for [`Queue::reclaim`].
    pub async fn tick(&mut self) -> Result<Tick, WorkerError> {
        match self.paint_next().await? {
            Next::Nothing => return Ok(Tick::Idle),
            Next::Ended => {}
            Next::Painted(unfinished) => self.finish(*unfinished).await?,
        }
        Ok(Tick::Worked)
    }

    async fn paint_all(
        &self,
        mut drain: watch::Receiver<bool>,
        painted: mpsc::Sender<Unfinished>,
    ) -> Result<(), WorkerError> {
        let mut work = self.queue.events().work();
        loop {
            // A place before a claim: one request is painted and one finished, and no third is held back here.
            let Ok(place) = painted.reserve().await else { return Ok(()) };
            if *drain.borrow() {
                return Ok(());
            }
            work.mark_unchanged();
            match self.paint_next().await? {
                Next::Painted(unfinished) => place.send(*unfinished),
                Next::Ended => {}
                Next::Nothing => tokio::select! {
                    () = signal_or(&mut work, IDLE_POLL) => {}
                    _ = drain.changed() => {}
                },
            }
        }
    }

    async fn finish_all(&self, mut unfinished: mpsc::Receiver<Unfinished>) -> Result<(), WorkerError> {
        while let Some(next) = unfinished.recv().await {
            self.finish(next).await?;
        }
        Ok(())
    }

    /// Claims the next request and paints it.
    async fn paint_next(&self) -> Result<Next, WorkerError> {
        let Some(mut claim) = self.queue.claim(&self.id, &self.models).await? else {
            return Ok(Next::Nothing);
        };
        tracing::info!(request = %claim.id, attempt = claim.attempt, "claimed");
        let mut request = match serde_json::from_value::<ImageRequest>(claim.body.take()) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("the stored request cannot be read: {error}");
                self.end(&claim, &failure(FailureKind::Engine, message)).await?;
                return Ok(Next::Ended);
            }
        };
        // What a picture was made of is dropped here: it may be megabytes.
        let begin = match request.begin.take() {
            None => None,
            Some(from) => {
                let Some(picture) = self.fetch(&claim, &from).await? else { return Ok(Next::Ended) };
                begin::size(&mut request, &from, &picture);
                Some(Begin { picture, strength: from.strength })
            }
        };
        let Some(work) = self.paint(&claim, &request, begin).await? else { return Ok(Next::Ended) };
        Ok(Next::Painted(Box::new(Unfinished { claim, request, work })))
    }

    /// Has the picture that a request begins from, unless it cannot be used or nobody wants it any more.
    async fn fetch(&self, claim: &Claim, from: &BeginFrom) -> Result<Option<Picture>, WorkerError> {
        let mut work = self.queue.events().work();
        let mut verdict = self.report(claim, "fetching the picture to begin from").await?;
        let mut load = std::pin::pin!(patiently(|| begin::load(self, &from.source)));
        let mut clock = tokio::time::interval(FETCH_BEAT);
        clock.reset();
        while matches!(verdict, Verdict::Continue { .. }) {
            tokio::select! {
                loaded = &mut load => return match loaded {
                    Ok(picture) => Ok(Some(picture)),
                    Err(why) => self.end(claim, &why.failure()).await.map(|()| None),
                },
                Ok(()) = work.changed() => verdict = self.queue.verdict(claim).await?,
                _ = clock.tick() => verdict = self.report(claim, "still fetching the picture").await?,
            }
        }
        self.settle(claim, verdict, Err(EngineError::Stopped)).await
    }

    /// Makes the pictures, stores the files and records the end.
    async fn finish(&self, unfinished: Unfinished) -> Result<(), WorkerError> {
        let Unfinished { claim, request, work: Work { painted, load } } = unfinished;
        let finished = engine_thread::finish(painted).await;
        let verdict = self.queue.verdict(&claim).await?;
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
                self.queue.progress(claim, Level::Error, &format!("engine fault: {message}")).await?;
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
            (Verdict::Continue { .. }, Err(EngineError::Numbers(message) | EngineError::Load(message))) => {
                failure(FailureKind::Engine, message)
            }
        };
        self.end(claim, &failure).await?;
        Ok(None)
    }

    async fn end(&self, claim: &Claim, failure: &Failure) -> Result<(), WorkerError> {
        let finish: Finish = patiently(|| self.queue.fail(claim, failure)).await?;
        tracing::info!(request = %claim.id, kind = failure.kind.word(), ?finish, "{}", failure.message);
        Ok(())
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

impl Fault for PublishError {
    fn is_machines(&self) -> bool {
        match self {
            Self::Queue(error) => error.is_machines(),
            Self::Storage(error) => error.is_machines(),
            Self::Encode(_) => false,
        }
    }
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, detail: None }
}
