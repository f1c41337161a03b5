//! The one thread that runs the engine: loads it, then takes jobs one after the other.

use crate::engine::{Control, Engine, EngineError, Generated, Loader, Step};
use crate::request::ImageRequest;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

/// A handle on the thread; the thread ends when the handle is dropped and its job is done.
pub struct EngineThread {
    jobs: std::sync::mpsc::Sender<Order>,
}

/// What the thread is told to do.
struct Order {
    request: ImageRequest,
    stop: Arc<AtomicBool>,
    steps: mpsc::UnboundedSender<Step>,
    result: oneshot::Sender<Result<Generated, EngineError>>,
}

/// A request that the engine is painting.
pub struct Job {
    /// Steps as they end; closed when the engine is done.
    pub steps: mpsc::UnboundedReceiver<Step>,
    stop: Arc<AtomicBool>,
    result: oneshot::Receiver<Result<Generated, EngineError>>,
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
        ready.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { jobs })
    }

    /// Hands a request to the engine.
    pub fn start(&self, request: ImageRequest) -> Job {
        let stop = Arc::new(AtomicBool::new(false));
        let (steps, heard) = mpsc::unbounded_channel();
        let (result, end) = oneshot::channel();
        // If the thread is gone the order is dropped, and the job's result says so.
        let _ = self.jobs.send(Order { request, stop: stop.clone(), steps, result });
        Job { steps: heard, stop, result: end }
    }
}

impl Job {
    /// Asks the engine to stop at its next step.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// How the painting ended.
    pub async fn result(self) -> Result<Generated, EngineError> {
        self.result.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> EngineError {
    EngineError::Fault("the engine's thread is gone".into())
}

fn run(
    loader: Loader,
    loaded: oneshot::Sender<Result<(), EngineError>>,
    orders: &std::sync::mpsc::Receiver<Order>,
) {
    let mut engine = match guarded(loader) {
        Ok(engine) => {
            let _ = loaded.send(Ok(()));
            engine
        }
        Err(error) => {
            let _ = loaded.send(Err(error));
            return;
        }
    };
    while let Ok(order) = orders.recv() {
        let result = guarded(|| paint(engine.as_mut(), &order));
        let fault = matches!(result, Err(EngineError::Fault(_)));
        let _ = order.result.send(result);
        if fault {
            return;
        }
    }
}

fn paint(engine: &mut dyn Engine, order: &Order) -> Result<Generated, EngineError> {
    engine.generate(&order.request, &mut |step| {
        let _ = order.steps.send(step);
        if order.stop.load(Ordering::Relaxed) { Control::Stop } else { Control::Continue }
    })
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
