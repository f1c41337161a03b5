//! The thread that runs the engine: loads it, then generates one request after the other.

use crate::engine::{
    Control, Decoding, Engine, EngineError, Generated, Image, Inputs, Loader, Loading, Observer,
    PendingImages, Prefetch, Step, recovery,
};
use latentd_request::ImageRequest;
use latentd_trace::Span;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// How often the state of a request is saved: a worker that dies loses this much work and the step that it was in.
/// Saving costs a copy of the latents, 1 MiB for an image of 1024x1024, and a write of them to the database.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// A handle to the thread; the thread ends when the handle is dropped and its job is done.
pub struct EngineThread {
    commands: std::sync::mpsc::Sender<Command>,
    /// Encodes prompts of waiting requests, on engines that gain from it.
    pub prefetch: Option<Prefetch>,
    /// The models that were loaded at the start.
    pub loaded: Vec<String>,
}

/// One request for the thread.
struct Command {
    request: ImageRequest,
    work: Work,
    observer: ProgressObserver,
    result: oneshot::Sender<Result<PendingImages, EngineError>>,
}

/// What the thread does for a request.
enum Work {
    /// Generates its images.
    Generate(Box<Inputs>),
    /// Decodes its latents in tiles.
    DecodeInTiles {
        pending: PendingImages,
        /// The error of decoding them as a whole.
        why: String,
    },
}

/// Sends the engine's progress to the worker, and reads the worker's flags.
struct ProgressObserver {
    flags: Arc<ControlFlags>,
    events: mpsc::UnboundedSender<Event>,
    /// What an interrupted attempt left, then what this one has saved last: if it runs out of memory, it goes on there.
    saved_state: Option<Vec<u8>>,
    /// When the state was saved last, or the work on the request began.
    saved_at: Instant,
    /// The state was saved because the engine is to be suspended: it stops at the next step that it reports.
    ///
    /// A loop that can save no state, as with the first-block cache, is never suspended: it would lose its work.
    is_suspended: bool,
    /// Of the work on the request; the stages are its children.
    span: Span,
    /// When the stage before ended.
    stage_began: SystemTime,
}

/// Flags by which the worker controls the engine while it generates.
#[derive(Default)]
struct ControlFlags {
    stop: AtomicBool,
    previews: AtomicBool,
    /// The engine is to save its state after its next step, and to stop then.
    suspend: AtomicBool,
    /// A state is on its way to the queue: the next one waits, so that a slow database costs no memory.
    storing_state: AtomicBool,
}

/// Progress of the engine with a request.
pub enum Event {
    /// Loading of the request's model has begun or ended.
    Loading(Loading),
    /// The model is loaded; generating begins, or decoding in tiles.
    Prepared,
    /// A note for the client, for the request's log.
    Note(String),
    /// A denoising step is done.
    Step(Step),
    /// A preview of the first image.
    Preview(Image),
    /// The state of the denoising loop; [`Job::state_stored`] is to be called when it is stored.
    State {
        /// Steps of the request that it contains.
        steps: usize,
        /// Opaque.
        bytes: Vec<u8>,
    },
}

/// A request that the engine is generating.
pub struct Job {
    /// The engine's progress; closed when it is done.
    pub events: mpsc::UnboundedReceiver<Event>,
    flags: Arc<ControlFlags>,
    result: oneshot::Receiver<Result<PendingImages, EngineError>>,
}

impl EngineThread {
    /// Starts the thread and waits until the engine is loaded.
    ///
    /// # Errors
    /// The loader's error.
    pub async fn load(loader: Loader) -> Result<Self, EngineError> {
        let (commands, received) = std::sync::mpsc::channel();
        let (loaded, ready) = oneshot::channel();
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || run(loader, loaded, &received))
            .map_err(|error| EngineError::Fault(format!("no thread for the engine: {error}")))?;
        let LoadedEngine { prefetch, loaded } = ready.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { commands, prefetch, loaded })
    }

    /// Hands a request to the engine, with the state that an interrupted attempt left. Its stages become children of `span`.
    pub fn start(
        &self,
        request: ImageRequest,
        inputs: Inputs,
        saved_state: Option<Vec<u8>>,
        span: Span,
    ) -> Job {
        self.send(request, Work::Generate(Box::new(inputs)), saved_state, span)
    }

    /// Hands latents back to the engine, which decodes them in tiles after the request that it is running; `why` decoding
    /// them as a whole failed. [`Event::Prepared`] says when it begins.
    pub fn decode_in_tiles(&self, request: ImageRequest, pending: PendingImages, why: String) -> Job {
        self.send(request, Work::DecodeInTiles { pending, why }, None, Span::default())
    }

    fn send(&self, request: ImageRequest, work: Work, saved_state: Option<Vec<u8>>, span: Span) -> Job {
        let flags = Arc::new(ControlFlags::default());
        let (sender, events) = mpsc::unbounded_channel();
        let (result, received) = oneshot::channel();
        let observer = ProgressObserver {
            flags: flags.clone(),
            events: sender,
            saved_state,
            saved_at: Instant::now(),
            is_suspended: false,
            span,
            stage_began: SystemTime::now(),
        };
        // If the thread is gone, the command is dropped and the job's result is an error.
        let _ = self.commands.send(Command { request, work, observer, result });
        Job { events, flags, result: received }
    }
}

impl ProgressObserver {
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Records the span of a stage that ends now and began when the one before ended.
    fn stage(&mut self, name: &'static str) -> Span {
        let began = std::mem::replace(&mut self.stage_began, SystemTime::now());
        self.span.child_since(began, name)
    }

    fn is_stopped(&self) -> bool {
        self.flags.stop.load(Ordering::Relaxed)
    }
}

impl Observer for ProgressObserver {
    fn encoded(&mut self) {
        self.stage("encode prompts");
    }

    fn step(&mut self, step: Step) -> Control {
        let Step { index, of, sigma, seconds } = step;
        let taken = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.stage_began = SystemTime::now().checked_sub(taken).unwrap_or(self.stage_began);
        let span = self.stage("denoising step");
        span.set("latentd.step", index as i64);
        span.set("latentd.steps", of as i64);
        span.set("latentd.sigma", sigma);
        self.send(Event::Step(step));
        if self.is_stopped() || self.is_suspended { Control::Stop } else { Control::Continue }
    }

    fn note(&mut self, text: &str) {
        self.send(Event::Note(text.to_owned()));
    }

    fn wants_preview(&mut self) -> bool {
        self.flags.previews.load(Ordering::Relaxed)
    }

    fn preview(&mut self, image: Image) {
        self.send(Event::Preview(image));
    }

    fn saved_state(&mut self) -> Option<Vec<u8>> {
        self.saved_state.clone()
    }

    fn wants_state(&mut self) -> bool {
        self.is_suspended = self.flags.suspend.load(Ordering::Relaxed);
        let is_due = self.saved_at.elapsed() >= SAVE_INTERVAL;
        self.is_suspended || (is_due && !self.flags.storing_state.load(Ordering::Acquire))
    }

    fn state(&mut self, steps: usize, bytes: Vec<u8>) {
        self.saved_at = Instant::now();
        self.saved_state = Some(bytes.clone());
        self.flags.storing_state.store(true, Ordering::Release);
        self.send(Event::State { steps, bytes });
    }
}

impl Job {
    /// Asks the engine to stop at its next step.
    pub fn stop(&self) {
        self.flags.stop.store(true, Ordering::Relaxed);
    }

    /// Turns the engine's previews on or off.
    pub fn want_previews(&self, wanted: bool) {
        self.flags.previews.store(wanted, Ordering::Relaxed);
    }

    /// Asks the engine to save its state after its next step, and to stop then.
    pub fn suspend(&self) {
        self.flags.suspend.store(true, Ordering::Relaxed);
    }

    /// The state that came last is stored, or is not going to be.
    pub fn state_stored(&self) {
        self.flags.storing_state.store(false, Ordering::Release);
    }

    /// The result, when the engine is done.
    pub async fn result(self) -> Result<PendingImages, EngineError> {
        self.result_unless_gone().await.unwrap_or_else(|| Err(gone()))
    }

    /// The result, when the engine is done; `None` if its thread has ended before it began.
    pub(super) async fn result_unless_gone(self) -> Option<Result<PendingImages, EngineError>> {
        self.result.await.ok()
    }
}

/// How decoding the images of a request ended.
pub(super) enum Decoded {
    Done(Result<Generated, EngineError>),
    /// The device has no memory to decode them as a whole.
    OutOfMemory {
        pending: PendingImages,
        why: String,
    },
}

/// Decodes and checks the images of a request, on a thread of its own.
pub(super) async fn decode(mut pending: PendingImages) -> Decoded {
    let decode = move || match guarded(|| pending(Decoding::Whole)) {
        Err(EngineError::OutOfMemory(why)) => Decoded::OutOfMemory { pending, why },
        done => Decoded::Done(done),
    };
    let decoded = tokio::task::spawn_blocking(decode).await;
    decoded.unwrap_or_else(|error| Decoded::Done(Err(EngineError::Fault(error.to_string()))))
}

fn gone() -> EngineError {
    EngineError::Fault("the engine's thread is gone".into())
}

/// What the worker needs to know of a loaded engine.
struct LoadedEngine {
    prefetch: Option<Prefetch>,
    loaded: Vec<String>,
}

fn run(
    loader: Loader,
    loaded: oneshot::Sender<Result<LoadedEngine, EngineError>>,
    commands: &std::sync::mpsc::Receiver<Command>,
) {
    let mut engine = match guarded(loader) {
        Ok(engine) => {
            let _ = loaded.send(Ok(LoadedEngine { prefetch: engine.prefetch(), loaded: engine.loaded() }));
            engine
        }
        Err(error) => {
            let _ = loaded.send(Err(error));
            return;
        }
    };
    while let Ok(Command { request, work, mut observer, result }) = commands.recv() {
        if result.is_closed() {
            continue; // the request has ended while it waited
        }
        let pending = guarded(|| match work {
            Work::Generate(inputs) => generate(&mut *engine, &request, *inputs, &mut observer),
            Work::DecodeInTiles { pending, why } => {
                observer.send(Event::Prepared);
                recovery::decode_in_tiles(&mut *engine, &request, pending, &why)
            }
        });
        let fault = matches!(pending, Err(EngineError::Fault(_)));
        drop(observer); // closes the channel of events
        let _ = result.send(pending);
        if fault {
            return;
        }
    }
}

fn generate(
    engine: &mut dyn Engine,
    request: &ImageRequest,
    inputs: Inputs,
    observer: &mut ProgressObserver,
) -> Result<PendingImages, EngineError> {
    observer.stage_began = SystemTime::now();
    engine.prepare(request, &mut |loading| {
        if let Loading::Done { .. } = loading {
            observer.stage("load model");
        }
        observer.send(Event::Loading(loading));
    })?;
    if observer.is_stopped() {
        return Err(EngineError::Stopped);
    }
    observer.send(Event::Prepared);
    (observer.saved_at, observer.stage_began) = (Instant::now(), SystemTime::now());
    let span = observer.span.clone();
    recovery::generate(engine, request, inputs, observer, &span)
}

/// Turns a panic into a fault. The engine is not used again after either.
fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(EngineError::Fault(format!("panic: {text}")))
    })
}
