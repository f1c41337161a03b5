//! An engine that hangs: the worker finds out and ends, the request is tried again, and only an engine that is silent
//! counts as hung.

use crate::support::{GreyEngine, Order, Server, StepControl, eventually, small, stepped_engine};
use latentd::engine::{Engine, EngineError, InitImage, Observer, PendingImages};
use latentd::queue::Lost;
use latentd::worker::{StepLimits, WorkerError};
use latentd_request::ImageRequest;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How many engines hang.
const TIMES: usize = 20;

fn limit(seconds: f64) -> StepLimits {
    StepLimits::default().or_fixed(Some(Duration::from_secs_f64(seconds)))
}

async fn worker(server: &Server, name: &str, limits: StepLimits) -> (StepControl, JoinHandle<WorkerError>) {
    let (engine, control) = stepped_engine();
    let mut worker = server.worker(name, engine).await;
    worker.limits = limits;
    let work = async move { worker.tick().await.expect_err("a worker that cannot go on") };
    (control, tokio::spawn(work))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_ends_its_worker_and_costs_one_more_attempt() {
    let server = Server::start().await;
    let mut hung = Vec::new();
    for number in 0..TIMES {
        let request = server.submit(&small()).await;
        let name = format!("w{number}");
        // Some hang before the first step, some later.
        let (control, work) = worker(&server, &name, limit(0.3)).await;
        if number % 2 == 0 {
            control.step().await;
        }
        hung.push((request, name, control, work));
    }
    for (request, name, control, work) in hung {
        let error = work.await.expect("no panic");
        assert!(matches!(error, WorkerError::Hung { .. }), "{error}");
        let lines = crate::support::messages(&server.status(&request).await);
        assert!(lines.iter().any(|line| line.contains("no sign of life")), "{lines:?}");
        assert_eq!(server.queue.reclaim(Lost::Died(&name)).await.expect("a database").waiting, 1);
        drop(control);
    }
    server.generate_all().await;
    assert_eq!(server.files().len(), TIMES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_engine_hangs_three_times_fails_for_good() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    for death in 1..=3 {
        let (_control, work) = worker(&server, "w", limit(0.1)).await;
        assert!(matches!(work.await.expect("no panic"), WorkerError::Hung { .. }));
        let done = server.queue.reclaim(Lost::Died("w")).await.expect("a database");
        assert_eq!((done.waiting, done.ended), if death < 3 { (1, 0) } else { (0, 1) });
    }
    assert_eq!(server.status(&request).await["error_type"], "runner_server_error");
}

/// Generates at once and hangs over the images.
struct Undecided(Arc<Mutex<Receiver<()>>>);

impl Engine for Undecided {
    fn generate(
        &mut self,
        request: &ImageRequest,
        begin: Option<InitImage>,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        let (pending, never) = (GreyEngine.generate(request, begin, observer)?, self.0.clone());
        Ok(Box::new(move || {
            let _ = never.lock().expect("one at a time").recv();
            pending()
        }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_while_it_is_decoded_is_charged_and_not_what_the_engine_has_next() {
    let server = Server::start().await;
    let requests = [server.submit(&small()).await, server.submit(&small()).await];
    let (let_go, never) = channel();
    let never = Arc::new(Mutex::new(never));
    for death in 1..=3 {
        let mut worker = server.worker("w", Undecided(never.clone())).await;
        worker.limits = limit(0.2);
        let (_drain, drained) = tokio::sync::watch::channel(false);
        let error = worker.run(drained).await.expect_err("a worker that cannot go on");
        assert!(matches!(error, WorkerError::Hung { doing: "decoding", .. }), "{error}");
        let done = server.queue.reclaim(Lost::Died("w")).await.expect("a database");
        assert_eq!(done.ended, u64::from(death == 3), "{death}: {done:?}");
    }
    assert_eq!(server.status(&requests[0]).await["error_type"], "runner_server_error");
    assert_eq!(server.status(&requests[1]).await["status"], "IN_QUEUE");
    drop(let_go);
    server.generate_all().await;
    assert_eq!(server.status(&requests[1]).await.get("error"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_slow_is_not_hung() {
    let server = Server::start().await;
    let mut input = small();
    input["num_inference_steps"] = serde_json::json!(50);
    let request = server.submit(&input).await;
    let (engine, control) = stepped_engine();
    let mut worker = server.worker("w", engine).await;
    worker.limits = limit(2.0);
    let work = tokio::spawn(async move { worker.tick().await });
    for _ in 1..50 {
        tokio::time::sleep(Duration::from_millis(60)).await; // three seconds in all
        control.step().await;
    }
    control.order(Order::Run);
    work.await.expect("no panic").expect("a worker that goes on");
    eventually(async || (server.status(&request).await["status"] == "COMPLETED").then_some(())).await;
    assert_eq!(server.status(&request).await.get("error"), None);
}
