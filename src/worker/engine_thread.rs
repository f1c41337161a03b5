//! The one thread that runs the engine: loads it, then takes jobs one after the other.

use crate::engine::{
    Control, Engine, EngineError, Generated, Image, InitImage, Loader, Loading, Observer, PendingImages,
    Prefetch, Step,
};
use latentd_request::ImageRequest;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

/// A handle on the thread; the thread ends when the handle is dropped and its job is done.
pub struct EngineThread {
    jobs: std::sync::mpsc::Sender<Order>,
    /// Encodes prompts ahead, where that is of use.
    pub prefetch: Option<Prefetch>,
    /// The models that were loaded first.
    pub loaded: Vec<String>,
}

/// What the thread is told to do.
struct Order {
    request: ImageRequest,
    begin: Option<InitImage>,
    follower: Follower,
    result: oneshot::Sender<Result<PendingImages, EngineError>>,
}

/// Passes on what the engine says, and what it is to know meanwhile.
struct Follower {
    wishes: Arc<Wishes>,
    events: mpsc::UnboundedSender<Event>,
}

/// What is wanted of a request in the engine's hands.
#[derive(Default)]
struct Wishes {
    stop: AtomicBool,
    previews: AtomicBool,
}

/// What the engine says while it generates.
pub enum Event {
    /// A model is loaded, or has been.
    Loading(Loading),
    /// The generation begins.
    Prepared,
    /// Something that the client should know of its request.
    Note(String),
    /// A step has ended.
    Step(Step),
    /// What becomes of the first image.
    Preview(Image),
}

/// A request that the engine is generating.
pub struct Job {
    /// What the engine says; closed when it is done.
    pub events: mpsc::UnboundedReceiver<Event>,
    wishes: Arc<Wishes>,
    result: oneshot::Receiver<Result<PendingImages, EngineError>>,
}

impl EngineThread {
    /// Starts the thread and waits until the engine is loaded.
    ///
    /// # Errors
    /// What the loader said.
    pub async fn load(loader: Loader) -> Result<Self, EngineError> {
        let (jobs, orders) = std::sync::mpsc::channel();
        let (loaded, ready) = oneshot::channel();
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || run(loader, loaded, &orders))
            .map_err(|error| EngineError::Fault(format!("no thread for the engine: {error}")))?;
        let First { prefetch, loaded } = ready.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { jobs, prefetch, loaded })
    }

    /// Hands a request to the engine.
    pub fn start(&self, request: ImageRequest, begin: Option<InitImage>) -> Job {
        let wishes = Arc::new(Wishes::default());
        let (events, heard) = mpsc::unbounded_channel();
        let (result, end) = oneshot::channel();
        let follower = Follower { wishes: wishes.clone(), events };
        // If the thread is gone the order is dropped, and the job's result says so.
        let _ = self.jobs.send(Order { request, begin, follower, result });
        Job { events: heard, wishes, result: end }
    }
}

impl Follower {
    fn say(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn is_stopped(&self) -> bool {
        self.wishes.stop.load(Ordering::Relaxed)
    }
}

impl Observer for Follower {
    fn step(&mut self, step: Step) -> Control {
        self.say(Event::Step(step));
        if self.is_stopped() { Control::Stop } else { Control::Continue }
    }

    fn note(&mut self, words: &str) {
        self.say(Event::Note(words.to_owned()));
    }

    fn wants_preview(&mut self) -> bool {
        self.wishes.previews.load(Ordering::Relaxed)
    }

    fn preview(&mut self, image: Image) {
        self.say(Event::Preview(image));
    }
}

impl Job {
    /// Asks the engine to stop at its next step.
    pub fn stop(&self) {
        self.wishes.stop.store(true, Ordering::Relaxed);
    }

    /// Asks the engine for previews, or for none.
    pub fn want_previews(&self, wanted: bool) {
        self.wishes.previews.store(wanted, Ordering::Relaxed);
    }

    /// How the generating ended.
    pub async fn result(self) -> Result<PendingImages, EngineError> {
        self.result.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Does what is left of a generated request, on a thread of its own.
pub(super) async fn finish(pending: PendingImages) -> Result<Generated, EngineError> {
    let finished = tokio::task::spawn_blocking(|| guarded(pending));
    finished.await.unwrap_or_else(|error| Err(EngineError::Fault(error.to_string())))
}

fn gone() -> EngineError {
    EngineError::Fault("the engine's thread is gone".into())
}

/// What an engine says of itself when it is loaded.
struct First {
    prefetch: Option<Prefetch>,
    loaded: Vec<String>,
}

fn run(
    loader: Loader,
    loaded: oneshot::Sender<Result<First, EngineError>>,
    orders: &std::sync::mpsc::Receiver<Order>,
) {
    let mut engine = match guarded(loader) {
        Ok(engine) => {
            let _ = loaded.send(Ok(First { prefetch: engine.prefetch(), loaded: engine.loaded() }));
            engine
        }
        Err(error) => {
            let _ = loaded.send(Err(error));
            return;
        }
    };
    while let Ok(Order { request, begin, mut follower, result }) = orders.recv() {
        let pending = guarded(|| generate(&mut *engine, &request, begin, &mut follower));
        let fault = matches!(pending, Err(EngineError::Fault(_)));
        drop(follower); // whoever listens hears the end
        let _ = result.send(pending);
        if fault {
            return;
        }
    }
}

fn generate(
    engine: &mut dyn Engine,
    request: &ImageRequest,
    begin: Option<InitImage>,
    follower: &mut Follower,
) -> Result<PendingImages, EngineError> {
    engine.prepare(request, &mut |loading| follower.say(Event::Loading(loading)))?;
    if follower.is_stopped() {
        return Err(EngineError::Stopped);
    }
    follower.say(Event::Prepared);
    engine.generate(request, begin, follower)
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
