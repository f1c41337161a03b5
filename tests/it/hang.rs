//! An engine that hangs: the worker finds out and ends, the request is tried again, and only an engine that is silent
//! counts as hung.

use crate::support::{Scripted, Server, SteppedRun, messages, small, small_with, stepped_engine};
use latentd::queue::Lost;
use latentd::worker::{StepLimits, WorkerError};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How many engines hang.
const TIMES: usize = 20;

fn limit(seconds: f64) -> StepLimits {
    StepLimits::default().or_fixed(Some(Duration::from_secs_f64(seconds)))
}

/// Has a worker with these limits claim the next request.
async fn run(server: &Server, name: &str, limits: StepLimits) -> SteppedRun {
    let (engine, control) = stepped_engine();
    let mut worker = server.worker(name, engine).await;
    worker.limits = limits;
    SteppedRun::start(worker, control)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_ends_its_worker_and_costs_one_more_attempt() {
    let server = Server::start().await;
    let mut hung = Vec::new();
    for number in 0..TIMES {
        let request = server.submit(&small()).await;
        let name = format!("w{number}");
        // Some hang before the first step, some later.
        let run = run(&server, &name, limit(0.3)).await;
        if number % 2 == 0 {
            run.step().await;
        }
        hung.push((request, name, run));
    }
    for (request, name, run) in hung {
        let error = run.failed().await;
        assert!(matches!(error, WorkerError::Hung { .. }), "{error}");
        let lines = messages(&server.status(&request).await);
        assert!(lines.iter().any(|line| line.contains("no sign of life")), "{lines:?}");
        assert_eq!(server.queue.reclaim(Lost::Died(&name)).await.expect("a database").waiting, 1);
    }
    server.generate_all().await;
    assert_eq!(server.files().len(), TIMES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_engine_hangs_three_times_fails_for_good() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    for death in 1..=3 {
        let run = run(&server, "w", limit(0.1)).await;
        assert!(matches!(run.failed().await, WorkerError::Hung { .. }));
        let done = server.queue.reclaim(Lost::Died("w")).await.expect("a database");
        assert_eq!((done.waiting, done.ended), if death < 3 { (1, 0) } else { (0, 1) });
    }
    assert_eq!(server.status(&request).await["error_type"], "runner_server_error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_decoding_hangs_is_charged_and_the_next_one_is_not() {
    let server = Server::start().await;
    let requests = [server.submit(&small()).await, server.submit(&small()).await];
    let (let_go, never) = channel::<()>();
    let never = Arc::new(Mutex::new(never));
    for death in 1..=3 {
        let never = never.clone();
        let engine = Scripted::new(move |call| {
            let never = never.clone();
            call.grey_after(move || {
                let _ = never.lock().expect("one at a time").recv();
            })
        });
        let mut worker = server.worker("w", engine).await;
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
    let request = server.submit(&small_with("num_inference_steps", 50)).await;
    let run = run(&server, "w", limit(2.0)).await;
    for _ in 1..50 {
        tokio::time::sleep(Duration::from_millis(60)).await; // three seconds in all
        run.step().await;
    }
    run.finish().await;
    assert_eq!(server.status(&request).await.get("error"), None);
}
