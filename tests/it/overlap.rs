//! One request is generated while the one before is decoded and published: what holds for one of them holds for both.

use crate::support::{RunningWorker, Scripted, Server, eventually, id_of, messages, small, small_with};
use axum::http::StatusCode;
use latentd::queue::{LEASE, Lost, WorkerState};
use latentd::worker::{HeldClaims, WorkerError};
use serde_json::Value;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

/// How decoding ends.
enum Decoding {
    Succeeds,
    Panics,
}

/// Generates grey at once, but panics for one seed, and decodes only when it is commanded.
fn engine(panics_at: i64) -> (Scripted, Sender<Decoding>) {
    let (decode, commands) = channel();
    let commands = Arc::new(Mutex::new(commands));
    let engine = Scripted::new(move |call| {
        assert_ne!(call.request.seed.bits(), panics_at, "as the test wants");
        let commands = commands.clone();
        call.grey_after(move || match commands.lock().expect("one at a time").recv() {
            Ok(Decoding::Succeeds) => {}
            Ok(Decoding::Panics) | Err(_) => panic!("as the test wants"),
        })
    });
    (engine, decode)
}

/// A running worker, and how its images are decoded.
struct Work {
    worker: RunningWorker,
    decode: Sender<Decoding>,
    held: HeldClaims,
}

impl Work {
    async fn start(server: &Server, panics_at: i64) -> Self {
        let (engine, decode) = engine(panics_at);
        let worker = server.worker("w", engine).await;
        let held = worker.held.clone();
        Self { worker: RunningWorker::start(worker), decode, held }
    }

    fn decode(&self, decoding: Decoding) {
        self.decode.send(decoding).expect("a worker");
    }

    /// Lets two requests be decoded, and the worker end.
    async fn drained(self) {
        self.worker.drain();
        for _ in 0..2 {
            self.decode(Decoding::Succeeds);
        }
        self.worker.drained().await;
    }
}

async fn submit(server: &Server, seed: i64) -> String {
    server.submit(&small_with("seed", seed)).await
}

/// Waits until a request has been denoised.
async fn denoised(server: &Server, request: &str) {
    let lines = async || messages(&server.status(request).await);
    eventually(async || lines().await.contains(&"decoding".into()).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_is_generated_while_the_last_is_decoded_and_no_third_is_claimed() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await, submit(&server, 3).await];
    let work = Work::start(&server, 0).await;
    denoised(&server, &requests[0]).await;
    denoised(&server, &requests[1]).await;
    assert_eq!(server.state(&requests[0]).await, "IN_PROGRESS");
    assert_eq!(server.state(&requests[2]).await, "IN_QUEUE");
    work.decode(Decoding::Succeeds);
    server.completed(&requests[0]).await;
    denoised(&server, &requests[2]).await;
    assert_eq!(server.state(&requests[1]).await, "IN_PROGRESS");
    work.drained().await;
    for (request, seed) in requests.iter().zip(1..) {
        assert_eq!(server.get(request).await.json()["seed"], seed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_finishes_both_and_claims_nothing_new() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await, submit(&server, 3).await];
    let work = Work::start(&server, 0).await;
    denoised(&server, &requests[1]).await;
    work.drained().await;
    for (request, wanted) in requests.iter().zip(["COMPLETED", "COMPLETED", "IN_QUEUE"]) {
        assert_eq!(server.state(request).await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn either_can_be_cancelled() {
    let server = Server::start().await;
    for cancelled in [0, 1] {
        let requests = [submit(&server, 1).await, submit(&server, 2).await];
        let work = Work::start(&server, 0).await;
        denoised(&server, &requests[1]).await;
        let files = server.files().len();
        let answer = server.put(&format!("{}/cancel", requests[cancelled])).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        work.drained().await;
        let kind = async |index: usize| server.status(&requests[index]).await["error_type"].clone();
        assert_eq!(kind(cancelled).await, "client_cancelled");
        assert_eq!(kind(1 - cancelled).await, Value::Null);
        assert_eq!(server.files().len(), files + 1, "of the other one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_renews_both_leases() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await];
    let work = Work::start(&server, 0).await;
    denoised(&server, &requests[1]).await;
    let most = i64::try_from(LEASE.as_secs()).expect("a minute") - 1;
    for _ in 0..2 {
        server.clock.advance(most);
        let held = work.held.ids();
        server.queue.heartbeat("w", "test", WorkerState::Ready, &held).await.expect("a database");
        assert_eq!(server.reclaim_expired().await.waiting, 0);
    }
    server.clock.advance(most + 2);
    assert_eq!(server.reclaim_expired().await.waiting, 2);
    drop(work.decode);
    assert!(matches!(work.worker.ended().await, Err(WorkerError::Engine(_))));
    server.generate_all().await;
    for request in requests {
        assert_eq!(server.status(&request).await["status"], "COMPLETED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_fault_does_not_lose_the_request_that_is_decoded() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await];
    let work = Work::start(&server, 2).await;
    let fault = async || {
        let lines = messages(&server.status(&requests[1]).await);
        lines.iter().any(|line| line.starts_with("engine fault")).then_some(())
    };
    eventually(fault).await;
    work.decode(Decoding::Succeeds);
    assert!(matches!(work.worker.ended().await, Err(WorkerError::Engine(_))));
    assert_eq!(server.state(&requests[0]).await, "COMPLETED");
    assert_eq!(server.state(&requests[1]).await, "IN_PROGRESS");
    assert_eq!(server.queue.reclaim(Lost::Died("w")).await.expect("a database").waiting, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_while_decoding_puts_both_back_in_their_places() {
    let server = Server::start().await;
    let requests = [submit(&server, 1).await, submit(&server, 2).await];
    let later = submit(&server, 3).await;
    let work = Work::start(&server, 0).await;
    denoised(&server, &requests[1]).await;
    work.decode(Decoding::Panics);
    assert!(matches!(work.worker.ended().await, Err(WorkerError::Engine(_))));
    assert_eq!(server.queue.reclaim(Lost::Died("w")).await.expect("a database").waiting, 2);
    for request in requests.iter().chain([&later]) {
        let claim = server.claim("x").await;
        assert_eq!(id_of(request), claim.id.to_string(), "in the order of submission");
        assert_eq!(claim.attempt, if *request == later { 1 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_encoded_ahead_and_the_queue_is_left_alone() {
    let server = Server::start().await;
    let prefetched = Arc::new(Mutex::new(Vec::new()));
    let prompts = prefetched.clone();
    let (engine, decode) = engine(0);
    let engine = engine
        .with_prefetch(move |request| prompts.lock().expect("one at a time").push(request.prompt.clone()));
    let mut worker = server.worker("w", engine).await;
    let first = server.submit(&small()).await;
    let next = server.submit(&small_with("prompt", "what comes next")).await;
    let tick = tokio::spawn(async move { worker.tick().await });
    let seen = async || {
        let seen = prefetched.lock().expect("one at a time").clone();
        (!seen.is_empty()).then_some(seen)
    };
    assert!(eventually(seen).await.iter().all(|prompt| prompt == "what comes next"));
    decode.send(Decoding::Succeeds).expect("a worker");
    tick.await.expect("no panic").expect("a worker that goes on");
    assert_eq!(server.state(&first).await, "COMPLETED");
    assert_eq!(server.state(&next).await, "IN_QUEUE");
    assert_eq!(server.claim("x").await.attempt, 1);
}
