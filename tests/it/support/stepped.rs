//! An engine that takes each step only when the test commands it.

use super::Server;
use super::engine::{Scripted, grey_image, step};
use latentd::engine::{Control, EngineError};
use latentd::worker::{Tick, Worker, WorkerError};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// What the engine does next.
enum Command {
    Step,
    TakeAllSteps,
    Fail(EngineError),
    Panic,
}

/// Commands the steps of an engine. When it is dropped, the engine takes all steps that are left.
pub(crate) struct StepControl {
    commands: Sender<Command>,
    steps_taken: Arc<Mutex<Receiver<usize>>>,
}

/// An engine that generates grey images, and its control. A preview is the lighter the later its step is, and a saved
/// state is the number of the step.
pub(crate) fn stepped_engine() -> (Scripted, StepControl) {
    let (sender, commands) = channel();
    let (took, steps_taken) = channel();
    let engine = Scripted::new(move |call| {
        let mut is_free = false;
        let done = call.observer.saved_state().map_or(0, |state| usize::from(state[0]));
        for index in done + 1..=call.request.steps {
            if !is_free {
                match commands.recv() {
                    Ok(Command::Step) => {}
                    Ok(Command::TakeAllSteps) | Err(_) => is_free = true,
                    Ok(Command::Fail(error)) => return Err(error),
                    Ok(Command::Panic) => panic!("as the test commands"),
                }
            }
            if index < call.request.steps && call.observer.wants_state() {
                call.observer.state(index, vec![index as u8]);
            }
            let control = call.observer.step(step(index, call.request.steps));
            if call.observer.wants_preview() {
                call.observer.preview(grey_image(call.request, 10 * index as u8));
            }
            let _ = took.send(index);
            if control == Control::Stop {
                return Err(EngineError::Stopped);
            }
        }
        Ok(call.images_after(|| {}))
    });
    (engine, StepControl { commands: sender, steps_taken: Arc::new(Mutex::new(steps_taken)) })
}

impl StepControl {
    fn command(&self, command: Command) {
        self.commands.send(command).expect("the engine lives");
    }

    /// Has the engine take one step, and waits until it has.
    pub(crate) async fn step(&self) {
        self.allow_step();
        let taken = self.steps_taken.clone();
        let wait = move || taken.lock().expect("one waiter").recv().expect("a step");
        tokio::task::spawn_blocking(wait).await.expect("a step");
    }

    /// Has the engine take one step at some time.
    pub(crate) fn allow_step(&self) {
        self.command(Command::Step);
    }

    /// Has the engine take the steps that are left of a request.
    pub(crate) fn take_all_steps(&self) {
        self.command(Command::TakeAllSteps);
    }

    /// Has the engine fail before its next step.
    pub(crate) fn fail(&self, error: EngineError) {
        self.command(Command::Fail(error));
    }

    /// Has the engine panic before its next step.
    pub(crate) fn panic(&self) {
        self.command(Command::Panic);
    }
}

/// A worker that generates one request, whose engine the test steps.
pub(crate) struct SteppedRun {
    pub(crate) control: StepControl,
    task: JoinHandle<Result<Tick, WorkerError>>,
}

impl Server {
    /// Has a new worker claim the next request.
    pub(crate) async fn run_stepped(&self, name: &str) -> SteppedRun {
        let (engine, control) = stepped_engine();
        SteppedRun::start(self.worker(name, engine).await, control)
    }
}

impl SteppedRun {
    /// Has a worker claim the next request; `control` steps its engine.
    pub(crate) fn start(mut worker: Worker, control: StepControl) -> Self {
        Self { control, task: tokio::spawn(async move { worker.tick().await }) }
    }

    /// Has the engine take one step, and waits until it has.
    pub(crate) async fn step(&self) {
        self.control.step().await;
    }

    /// Takes the steps that are left, and waits until the worker is done with the request.
    pub(crate) async fn finish(self) {
        self.control.take_all_steps();
        self.done().await;
    }

    /// Waits until the worker is done with the request, and could go on.
    pub(crate) async fn done(self) {
        self.task.await.expect("no panic").expect("a worker that goes on");
    }

    /// Waits for the error with which the worker ends.
    pub(crate) async fn failed(self) -> WorkerError {
        self.task.await.expect("no panic").expect_err("a worker that cannot go on")
    }
}
