//! One request is generated while the one before is finished: what each of them is promised holds for both.

use crate::support::{GreyEngine, Server, eventually, every_model, small};
use axum::http::StatusCode;
use latentd::engine::{Engine, EngineError, InitImage, Observer, PendingImages, Prefetch};
use latentd::queue::{LEASE, Lost, WorkerState};
use latentd::worker::WorkerError;
use latentd_request::ImageRequest;
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Generates grey at once, unless it is told to fail, and finishes each request only when it is told to.
struct Slow {
    finishes: Arc<Mutex<Receiver<Finish>>>,
    panics_at: i64,
    prefetched: Option<Arc<Mutex<Vec<String>>>>,
}

enum Finish {
    Well,
    Panicking,
}

impl Engine for Slow {
    fn generate(
        &mut self,
        request: &ImageRequest,
        begin: Option<InitImage>,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        assert_ne!(request.seed.bits(), self.panics_at, "told to");
        let (pending, finishes) = (GreyEngine.generate(request, begin, observer)?, self.finishes.clone());
        Ok(Box::new(move || match finishes.lock().expect("one at a time").recv() {
            Ok(Finish::Well) => pending(),
            Ok(Finish::Panicking) | Err(_) => panic!("told to"),
        }))
    }

    fn prefetch(&self) -> Option<Prefetch> {
        let prefetched = self.prefetched.clone()?;
        Some(Arc::new(move |request| {
            prefetched.lock().expect("one at a time").push(request.prompt.clone());
            Ok(())
        }))
    }
}

/// A worker at work, and what it is told.
struct Work {
    running: JoinHandle<Result<(), WorkerError>>,
    finish: Sender<Finish>,
    drain: watch::Sender<bool>,
}

impl Work {
    async fn start(server: &Server, panics_at: i64) -> Self {
        let (finish, finishes) = channel();
        let engine = Slow { finishes: Arc::new(Mutex::new(finishes)), panics_at, prefetched: None };
        let mut worker = server.worker("w", engine).await;
        let (drain, drained) = watch::channel(false);
        let running = tokio::spawn(async move { worker.run(drained).await });
        Self { running, finish, drain }
    }

    async fn end(self) -> Result<(), WorkerError> {
        self.running.await.expect("no panic")
    }
}

async fn submit(server: &Server, seed: i64) -> String {
    let mut input = small();
    input["seed"] = json!(seed);
    server.submit(&input).await
}

async fn word(server: &Server, request: &str) -> String {
    server.status(request).await["status"].as_str().expect("a word").to_owned()
}

async fn until(server: &Server, request: &str, wanted: &str) {
    eventually(async || (word(server, request).await == wanted).then_some(())).await;
}

/// Waits until a request has been generated.
async fn pending(server: &Server, request: &str) {
    let lines = async || crate::support::messages(&server.status(request).await);
    eventually(async || lines().await.contains(&"decoding".into()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_is_generated_while_the_last_is_finished_and_no_third_is_taken() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await, submit(&server, 3).await];
    let work = Work::start(&server, 0).await;
    pending(&server, &requests[0]).await;
    pending(&server, &requests[1]).await;
    assert_eq!(word(&server, &requests[0]).await, "IN_PROGRESS");
    assert_eq!(word(&server, &requests[2]).await, "IN_QUEUE");
    work.finish.send(Finish::Well).expect("a worker");
    until(&server, &requests[0], "COMPLETED").await;
    pending(&server, &requests[2]).await;
    assert_eq!(word(&server, &requests[1]).await, "IN_PROGRESS");
    work.drain.send_replace(true);
    for _ in 0..2 {
        work.finish.send(Finish::Well).expect("a worker");
    }
    work.end().await.expect("a clean end");
    for (request, seed) in requests.iter().zip(1..) {
        assert_eq!(server.get(request).await.json()["seed"], seed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_finishes_both_and_takes_nothing_new() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await, submit(&server, 3).await];
    let work = Work::start(&server, 0).await;
    pending(&server, &requests[1]).await;
    work.drain.send_replace(true);
    for _ in 0..2 {
        work.finish.send(Finish::Well).expect("a worker");
    }
    work.end().await.expect("a clean end");
    for (request, wanted) in requests.iter().zip(["COMPLETED", "COMPLETED", "IN_QUEUE"]) {
        assert_eq!(word(&server, request).await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn either_can_be_cancelled() {
    let server = Server::start().await;
    for cancelled in [0, 1] {
        let requests = [submit(&server, 1).await, submit(&server, 2).await];
        let work = Work::start(&server, 0).await;
        pending(&server, &requests[1]).await;
        let files = server.files().len();
        let answer = server.put(&format!("{}/cancel", requests[cancelled])).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        work.drain.send_replace(true);
        for _ in 0..2 {
            work.finish.send(Finish::Well).expect("a worker");
        }
        work.end().await.expect("a clean end");
        let kind = async |index: usize| server.status(&requests[index]).await["error_type"].clone();
        assert_eq!(kind(cancelled).await, "client_cancelled");
        assert_eq!(kind(1 - cancelled).await, Value::Null);
        assert_eq!(server.files().len(), files + 1, "of the other one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_renews_both_leases() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await];
    let work = Work::start(&server, 0).await;
    pending(&server, &requests[1]).await;
    let most = i64::try_from(LEASE.as_secs()).expect("a minute") - 1;
    for _ in 0..2 {
        server.clock.advance(most);
        server.queue.beat("w", "test", WorkerState::Ready).await.expect("a database");
        assert_eq!(server.reclaim_expired().await.waiting, 0);
    }
    server.clock.advance(most + 2);
    assert_eq!(server.reclaim_expired().await.waiting, 2);
    drop(work.finish);
    assert!(matches!(work.running.await.expect("no panic"), Err(WorkerError::Engine(_))));
    server.generate_all().await;
    for request in requests {
        assert_eq!(server.status(&request).await["status"], "COMPLETED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_while_generating_does_not_take_the_request_before_with_it() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await];
    let work = Work::start(&server, 2).await;
    let fault = async || {
        let lines = crate::support::messages(&server.status(&requests[1]).await);
        lines.iter().any(|line| line.starts_with("engine fault")).then_some(())
    };
    eventually(fault).await;
    work.finish.send(Finish::Well).expect("a worker");
    assert!(matches!(work.end().await, Err(WorkerError::Engine(_))));
    assert_eq!(word(&server, &requests[0]).await, "COMPLETED");
    assert_eq!(word(&server, &requests[1]).await, "IN_PROGRESS");
    assert_eq!(server.queue.reclaim(Lost::Died("w")).await.expect("a database").waiting, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_while_finishing_puts_both_back_in_their_places() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await];
    let later = submit(&server, 3).await;
    let work = Work::start(&server, 0).await;
    pending(&server, &requests[1]).await;
    work.finish.send(Finish::Panicking).expect("a worker");
    assert!(matches!(work.end().await, Err(WorkerError::Engine(_))));
    assert_eq!(server.queue.reclaim(Lost::Died("w")).await.expect("a database").waiting, 2);
    for request in requests.iter().chain([&later]) {
        let claim = server.queue.claim("x", &every_model()).await.expect("a database").expect("a request");
        assert!(request.ends_with(&claim.id.to_string()), "in the order of submission");
        assert_eq!(claim.attempt, if *request == later { 1 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_encoded_ahead_and_the_queue_is_left_alone() {
    let server = Server::start().await;
    let prefetched = Arc::new(Mutex::new(Vec::new()));
    let (finish, finishes) = channel();
    let finishes = Arc::new(Mutex::new(finishes));
    let engine = Slow { finishes, panics_at: 0, prefetched: Some(prefetched.clone()) };
    let mut worker = server.worker("w", engine).await;
    let first = server.submit(&small()).await;
    let mut input = small();
    input["prompt"] = json!("what comes next");
    let next = server.submit(&input).await;
    let tick = tokio::spawn(async move { worker.tick().await });
    let seen = async || {
        let seen = prefetched.lock().expect("one at a time").clone();
        (!seen.is_empty()).then_some(seen)
    };
    assert!(eventually(seen).await.iter().all(|prompt| prompt == "what comes next"));
    finish.send(Finish::Well).expect("a worker");
    tick.await.expect("no panic").expect("a worker that goes on");
    assert_eq!(word(&server, &first).await, "COMPLETED");
    assert_eq!(word(&server, &next).await, "IN_QUEUE");
    assert_eq!(
        server.queue.claim("x", &every_model()).await.expect("a database").expect("a request").attempt,
        1
    );
}
