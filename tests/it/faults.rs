//! Faults of the machine that no request has to pay for: a database that is locked, a clock that is set, a request that
//! takes the worker down. Each happens to twenty requests.

use crate::support::{RunningWorker, Scripted, Server, SteppedRun, attempts, small_with, stepped_engine};
use latentd::engine::EngineError;
use latentd::queue::{LEASE, LEASE_CHECK_INTERVAL, LeaseCheck, Lost, Reclaimed};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often each fault happens.
const TIMES: usize = 20;

/// Another process's lock on the database, with which nobody else writes.
pub(crate) struct Lock(SqliteConnection);

impl Lock {
    pub(crate) async fn take(database: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(database).busy_timeout(Duration::from_secs(60));
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a database");
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock");
        Self(connection)
    }

    pub(crate) async fn release(mut self) {
        sqlx::query("ROLLBACK").execute(&mut self.0).await.expect("no lock");
    }
}

async fn submit(server: &Server, prompt: &str) -> String {
    server.submit(&small_with("prompt", prompt)).await
}

/// Asserts that a request ends well, in its first attempt.
async fn assert_untouched(server: &Server, request: &str) {
    let status = server.completed(request).await;
    assert_eq!(status.get("error"), None, "{status}");
    assert_eq!(attempts(&status), 1, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_locked_for_longer_than_a_lease_costs_nothing() {
    let server = Server::start().await;
    let (mut requests, mut runs) = (Vec::new(), Vec::new());
    for number in 0..TIMES {
        requests.push(submit(&server, "locked out").await);
        let (engine, control) = stepped_engine();
        let run = SteppedRun::start(server.worker_apart(&format!("w{number}"), engine).await, control);
        run.step().await;
        runs.push(run);
    }
    let lock = Lock::take(&server.directory.path().join("q.sqlite")).await;
    for run in &runs {
        run.control.take_all_steps(); // the other steps are taken, but cannot be reported
    }
    let until = Instant::now() + Duration::from_secs(7); // longer than SQLite itself waits
    server.clock.advance(2 * LEASE.as_secs().cast_signed());
    let mut check = LeaseCheck::default();
    while Instant::now() < until {
        // A check fails while the database is locked.
        if let Ok(done) = server.queue.reclaim_expired(&mut check).await {
            assert_eq!(done, Reclaimed::default());
        }
        tokio::time::sleep(LEASE_CHECK_INTERVAL).await;
    }
    lock.release().await;
    for _ in 0..3 {
        let done = server.queue.reclaim_expired(&mut check).await.expect("a database");
        assert_eq!(done, Reclaimed::default());
    }
    for (request, run) in requests.iter().zip(runs) {
        run.done().await;
        assert_untouched(&server, request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_date_may_be_set_in_the_middle_of_a_request() {
    let server = Server::start().await;
    for time in 0..TIMES {
        let request = submit(&server, "what time is it").await;
        let run = server.run_stepped("w").await;
        run.step().await;
        for jump in [1, 2, -4] {
            server.clock.set_date(jump * 3600 * (1 + time as i64));
            assert_eq!(server.reclaim_expired().await, Reclaimed::default());
        }
        run.finish().await;
        assert_untouched(&server, &request).await;
    }
}

/// Runs workers that are killed as soon as their engine has the prompt `poison`, until all requests are over; returns how
/// many were killed.
async fn outlive_the_poison(server: &Server, requests: &[String]) -> usize {
    let mut deaths = 0;
    loop {
        let (poisoned, mut is_poisoned) = mpsc::unbounded_channel();
        let (life, lives) = channel::<()>();
        let engine = Scripted::new(move |call| {
            if call.request.prompt == "poison" {
                let _ = poisoned.send(());
                let _ = lives.recv(); // returns when the test is done with the worker
                return Err(EngineError::Stopped);
            }
            call.grey_after(|| std::thread::sleep(Duration::from_millis(20)))
        });
        let id = format!("w{deaths}");
        let worker = RunningWorker::start(server.worker_apart(&id, engine).await);
        let all_over = async {
            for request in requests {
                server.completed(request).await;
            }
        };
        tokio::select! {
            biased;
            Some(()) = is_poisoned.recv() => worker.kill().await,
            () = all_over => {
                worker.kill().await;
                return deaths;
            }
        }
        drop(life);
        server.queue.reclaim(Lost::Died(&id)).await.expect("a database");
        deaths += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_kills_workers_fails_after_three_deaths_and_no_other_with_it() {
    let server = Server::start().await;
    let (mut innocent, mut poison) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        innocent.push(submit(&server, "innocent").await);
        poison.push(submit(&server, "poison").await);
    }
    let all: Vec<String> = innocent.iter().chain(&poison).cloned().collect();
    assert_eq!(outlive_the_poison(&server, &all).await, 3 * TIMES);
    for request in &innocent {
        assert_eq!(server.status(request).await.get("error"), None);
    }
    for request in &poison {
        assert_eq!(server.status(request).await["error_type"], "runner_server_error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_tried_again_has_the_worker_to_itself() {
    let server = Server::start().await;
    let requests = [submit(&server, "again").await, submit(&server, "next").await];
    server.claim("dead").await;
    server.queue.reclaim(Lost::Died("dead")).await.expect("a database");
    let (decodes, mut decoding) = mpsc::unbounded_channel();
    let (go_on, waits) = channel();
    let waits = Arc::new(Mutex::new(waits));
    let engine = Scripted::new(move |call| {
        let (decodes, waits, prompt) = (decodes.clone(), waits.clone(), call.request.prompt.clone());
        call.grey_after(move || {
            let _ = decodes.send(prompt);
            let _ = waits.lock().expect("one at a time").recv();
        })
    });
    let worker = RunningWorker::start(server.worker("w", engine).await);
    assert_eq!(decoding.recv().await.as_deref(), Some("again"));
    // A worker that would claim the other one has time to do so.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.state(&requests[1]).await, "IN_QUEUE", "nothing runs beside a second try");
    for _ in &requests {
        go_on.send(()).expect("a worker");
    }
    assert_eq!(decoding.recv().await.as_deref(), Some("next"));
    for request in &requests {
        server.completed(request).await;
    }
    worker.drained().await;
}
