//! Workers that die, fall silent or come back late: one result, in the right place.

use crate::support::{
    ENDPOINT, RunningWorker, Scripted, Server, StepControl, messages, small, stepped_engine, within,
};
use axum::http::{Method, StatusCode};
use latentd::engine::EngineError;
use latentd::queue::{
    Failure, FailureKind, Finish, LEASE, Level, Lost, NewRequest, Origin, Priority, Submission, Verdict,
    WorkerState,
};
use latentd::worker::{Worker, WorkerError};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn a_late_attempt_changes_nothing() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let queue = &server.queue;
    let late = server.claim("late").await;
    queue.reclaim(Lost::Died("late")).await.expect("a database");

    // Back in the queue: the late worker may not change it.
    assert_fenced(&server, &late).await;
    assert_eq!(server.status(&request).await["status"], "IN_QUEUE");

    // Claimed by another worker.
    let current = server.claim("current").await;
    assert_eq!((late.attempt, current.attempt), (1, 2));
    assert_fenced(&server, &late).await;
    assert_eq!(queue.verdict(&current).await.expect("a database"), Verdict::Continue { watched: false });

    // Over, with a result that stays.
    let output = json!({ "images": [], "seconds": { "text": 0.0, "denoise": 0.0, "decode": 0.0, "encode": 0.0 },
        "seed": 2, "flagged": [], "prompt": "current" });
    for _call in ["the first", "another, for the answer to the first was lost"] {
        let recorded = queue.finish(&current, &output, &[], &[]).await;
        assert_eq!(recorded.expect("a database"), Finish::Recorded);
    }
    assert_fenced(&server, &late).await;
    assert_fenced(&server, &current).await;
    assert_eq!(server.get(&request).await.json()["prompt"], "current");
}

async fn assert_fenced(server: &Server, claim: &latentd::queue::Claim) {
    let queue = &server.queue;
    let before = server.queue.logs(claim.id, 0).await.expect("a database").len();
    assert_eq!(queue.verdict(claim).await.expect("a database"), Verdict::Fenced);
    assert_eq!(queue.progress(claim, Level::Info, "late").await.expect("a database"), Verdict::Fenced);
    assert_eq!(queue.charge(claim).await.expect("a database"), Verdict::Fenced);
    assert_eq!(
        queue.finish(claim, &json!({ "late": true }), &[], &[]).await.expect("a database"),
        Finish::Fenced
    );
    let failure = Failure::of(FailureKind::Engine);
    assert_eq!(queue.fail(claim, &failure).await.expect("a database"), Finish::Fenced);
    assert_eq!(queue.give_back(claim).await.expect("a database"), Finish::Fenced);
    queue.store_preview(claim, b"late").await.expect("a database");
    assert_eq!(queue.preview(claim.id, 0).await.expect("a database"), None);
    assert_eq!(queue.logs(claim.id, 0).await.expect("a database").len(), before);
}

#[tokio::test]
async fn a_worker_that_lost_its_request_stops_and_leaves_no_file() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let late = server.run_stepped("late").await;
    late.step().await;
    server.queue.reclaim(Lost::Died("late")).await.expect("a database");
    server.generate_all().await;
    let result = server.get(&request).await;
    late.finish().await;
    assert_eq!(server.files().len(), 1, "the late worker's image is not kept");
    assert_eq!(server.get(&request).await.bytes, result.bytes);
    assert!(
        messages(&server.status(&request).await)
            .contains(&"the worker died; the request is tried again".into())
    );
}

#[tokio::test]
async fn a_panic_or_a_fault_ends_the_worker_and_the_request_is_tried_again() {
    let fault = |control: &StepControl| control.fail(EngineError::Fault("gone".into()));
    for disturb in [StepControl::panic, fault] {
        let server = Server::start().await;
        let request = server.submit(&small()).await;
        let (engine, control) = stepped_engine();
        let mut worker = server.worker("w", engine).await;
        disturb(&control);
        assert!(matches!(worker.tick().await, Err(WorkerError::Engine(_))));
        assert_eq!(server.status(&request).await["status"], "IN_PROGRESS");
        server.queue.reclaim(Lost::Died("w")).await.expect("a database");
        server.generate_all().await;
        assert_eq!(server.get(&request).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_request_that_kills_three_workers_fails_for_good() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    for death in 1..=3 {
        let worker = format!("w{death}");
        let claim = server.claim(&worker).await;
        assert_eq!(claim.attempt, death);
        server.queue.charge(&claim).await.expect("a database");
        // Whether the worker dies, falls silent or goes down with the whole machine.
        let lost = [Lost::Died(&worker), Lost::Everything][usize::try_from(death % 2).expect("0 or 1")];
        server.queue.reclaim(lost).await.expect("a database");
    }
    assert!(server.try_claim("w4").await.is_none());
    let status = server.status(&request).await;
    assert_eq!(
        (&status["status"], &status["error_type"]),
        (&json!("COMPLETED"), &json!("runner_server_error"))
    );
    let answer = server.get(&request).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        answer.json()["detail"],
        "the worker died 3 times while its engine worked on this request; it is not tried again"
    );
}

#[tokio::test]
async fn only_the_request_in_the_engine_is_charged() {
    let server = Server::start().await;
    let requests = [server.submit(&small()).await, server.submit(&small()).await];
    for death in 1..=3 {
        let mut claims = Vec::new();
        for _ in &requests {
            claims.push(server.claim("w").await);
        }
        // The engine is done with the first and works on the second.
        for claim in &claims {
            assert_eq!(
                server.queue.charge(claim).await.expect("a database"),
                Verdict::Continue { watched: false }
            );
        }
        let done = server.queue.reclaim(Lost::Died("w")).await.expect("a database");
        assert_eq!((done.waiting, done.ended), if death < 3 { (2, 0) } else { (1, 1) });
    }
    assert_eq!(server.status(&requests[0]).await["status"], "IN_QUEUE");
    assert_eq!(server.status(&requests[1]).await["error_type"], "runner_server_error");
}

#[tokio::test]
async fn stopping_workers_charges_no_request() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    for _ in 0..5 {
        server.claim("w").await;
        server.queue.reclaim(Lost::Stopped("w")).await.expect("a database");
        let claim = server.claim("w").await;
        assert_eq!(server.queue.give_back(&claim).await.expect("a database"), Finish::Recorded);
        server.claim("w").await;
        server.queue.reclaim(Lost::Everything).await.expect("a database");
    }
    server.generate_all().await;
    assert_eq!(server.get(&request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_lease_runs_out_unless_it_is_renewed() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let claim = server.claim("w").await;
    let most = i64::try_from(LEASE.as_secs()).expect("a minute") - 1;
    for renew_by_step in [true, false] {
        server.clock.advance(most);
        match renew_by_step {
            true => drop(server.queue.progress(&claim, Level::Info, "step").await.expect("a database")),
            false => server
                .queue
                .heartbeat("w", "test", WorkerState::Ready, &[claim.id])
                .await
                .expect("a database"),
        }
        assert_eq!(server.reclaim_expired().await.waiting, 0);
    }
    server.clock.advance(most + 2);
    assert_eq!(server.reclaim_expired().await.waiting, 1);
    assert_fenced(&server, &claim).await;
    assert_eq!(server.status(&request).await["status"], "IN_QUEUE");
}

#[tokio::test]
async fn a_cancelled_request_is_not_put_back_when_its_worker_dies() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    server.claim("w").await;
    assert_eq!(server.put(&format!("{request}/cancel")).await.status, StatusCode::ACCEPTED);
    server.queue.reclaim(Lost::Died("w")).await.expect("a database");
    assert_eq!(server.status(&request).await["error_type"], "client_cancelled");
}

#[tokio::test]
async fn after_a_restart_direct_requests_have_ended() {
    let server = Server::start().await;
    let direct = NewRequest {
        endpoint: ENDPOINT.into(),
        origin: Origin::Direct,
        priority: Priority::Normal,
        body: Value::Null,
        model: None,
        max_waiting: None,
        options: latentd::queue::RequestOptions::default(),
        webhook: None,
        api_key: None,
        client: None,
        traceparent: None,
        idempotency: None,
    };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let Submission::Accepted { id, .. } = server.queue.submit(&direct).await.expect("a database") else {
            panic!("there is no limit");
        };
        ids.push(id);
    }
    server.claim("w").await;
    let queued = server.submit(&small()).await;
    let reclaimed = server.queue.reclaim(Lost::Everything).await.expect("a database");
    assert_eq!(reclaimed.ended, 2);
    for id in ids {
        let status = server.status(&format!("/{ENDPOINT}/requests/{id}")).await;
        assert_eq!(status["error_type"], "client_disconnected");
    }
    assert_eq!(server.status(&queued).await["status"], "IN_QUEUE");
}

#[tokio::test]
async fn readiness_is_a_worker_that_said_so_lately() {
    let server = Server::start().await;
    let ready = async || {
        let answer = server.call(Method::GET, "/health/ready", &Value::Null).await;
        (answer.status, answer.json()["status"].as_str().expect("a word").to_owned())
    };
    assert_eq!(ready().await, (StatusCode::SERVICE_UNAVAILABLE, "no worker".into()));
    server.queue.heartbeat("w", "test", WorkerState::Loading, &[]).await.expect("a database");
    assert_eq!(ready().await, (StatusCode::SERVICE_UNAVAILABLE, "loading".into()));
    server.queue.heartbeat("w", "test", WorkerState::Ready, &[]).await.expect("a database");
    assert_eq!(ready().await, (StatusCode::OK, "ready".into()));
    server.queue.set_silent("w", true);
    assert_eq!(ready().await, (StatusCode::SERVICE_UNAVAILABLE, "no worker".into()));
    server.queue.set_silent("w", false);
    for jump in [86_400, -2 * 86_400] {
        server.clock.set_date(jump);
        assert_eq!(ready().await, (StatusCode::OK, "ready".into()));
    }
    server.clock.advance(30);
    assert_eq!(ready().await, (StatusCode::SERVICE_UNAVAILABLE, "no worker".into()));
    assert_eq!(server.get("/health/live").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_drained_worker_finishes_its_request_and_claims_nothing_new() {
    let server = Server::start().await;
    let first = server.submit(&small()).await;
    let second = server.submit(&small()).await;
    let (engine, control) = stepped_engine();
    let worker = RunningWorker::start(server.worker("w", engine).await);
    control.step().await;
    worker.drain();
    control.take_all_steps();
    worker.drained().await;
    assert_eq!(server.status(&first).await["status"], "COMPLETED");
    assert_eq!(server.status(&second).await["status"], "IN_QUEUE");
}

#[tokio::test]
async fn an_idle_worker_wakes_when_work_comes() {
    let server = Server::start().await;
    // It does not poll within the test.
    let idle_poll = Duration::from_secs(3600);
    let worker = Worker { idle_poll, ..server.worker("w", Scripted::grey()).await };
    let worker = RunningWorker::start(worker);
    for _ in 0..5 {
        let request = server.submit(&small()).await;
        let done = async || (server.status(&request).await["status"] == "COMPLETED").then_some(());
        within(Duration::from_secs(60), done).await;
    }
    worker.drained().await;
}
