//! Faults of the machine that no request has to pay for: a database that is locked, a clock that is set, a neighbour that
//! takes the worker down. Each happens to twenty requests.

use crate::support::{GreyEngine, Order, Server, eventually, small, stepped_engine};
use latentd::engine::{Engine, EngineError, InitImage, Observer, PendingImages};
use latentd::queue::{LEASE, LEASE_CHECK_INTERVAL, LeaseCheck, Lost, Reclaimed};
use latentd_request::ImageRequest;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// How often each fault happens.
const TIMES: usize = 20;

/// Another process's lock on the database: nobody else writes.
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
    let mut input = small();
    input["prompt"] = json!(prompt);
    server.submit(&input).await
}

/// Asserts that a request ended well, in its first attempt.
async fn untouched(server: &Server, request: &str) {
    let status = eventually(async || {
        let status = server.status(request).await;
        (status["status"] == "COMPLETED").then_some(status)
    })
    .await;
    assert_eq!(status.get("error"), None, "{status}");
    let lines = crate::support::messages(&status);
    assert_eq!(lines.iter().filter(|line| line.starts_with("encoding prompt")).count(), 1, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_locked_for_longer_than_a_lease_costs_nothing() {
    let server = Server::start().await;
    let mut requests = Vec::new();
    let mut works = Vec::new();
    for number in 0..TIMES {
        requests.push(submit(&server, "locked out").await);
        let (engine, control) = stepped_engine();
        let mut worker = server.worker_apart(&format!("w{number}"), engine).await;
        let work = tokio::spawn(async move { worker.tick().await });
        control.step().await;
        works.push((control, work));
    }
    let lock = Lock::take(&server.directory.path().join("q.sqlite")).await;
    for (control, _) in &works {
        control.order(Order::Run); // the other steps are taken, but cannot be reported
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
    for (request, (_control, work)) in requests.iter().zip(works) {
        work.await.expect("no panic").expect("a worker that goes on");
        untouched(&server, request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_date_may_be_set_in_the_middle_of_a_request() {
    let server = Server::start().await;
    for time in 0..TIMES {
        let request = submit(&server, "what time is it").await;
        let (engine, control) = stepped_engine();
        let mut worker = server.worker("w", engine).await;
        let work = tokio::spawn(async move { worker.tick().await });
        control.step().await;
        for jump in [1, 2, -4] {
            server.clock.set_date(jump * 3600 * (1 + time as i64));
            assert_eq!(server.reclaim_expired().await, Reclaimed::default());
        }
        control.order(Order::Run);
        work.await.expect("no panic").expect("a worker that goes on");
        untouched(&server, &request).await;
    }
}

/// Never comes back from a request that is poison, and takes its time with the images of others.
struct Mortal {
    dies: mpsc::UnboundedSender<()>,
    never: Receiver<()>,
}

impl Engine for Mortal {
    fn generate(
        &mut self,
        request: &ImageRequest,
        begin: Option<InitImage>,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        if request.prompt == "poison" {
            let _ = self.dies.send(());
            let _ = self.never.recv(); // until the test lets go of the worker
            return Err(EngineError::Stopped);
        }
        let pending = GreyEngine.generate(request, begin, observer)?;
        Ok(Box::new(|| {
            std::thread::sleep(Duration::from_millis(20));
            pending()
        }))
    }
}

/// Runs workers that are killed as soon as they begin with poison, until nothing waits; returns how many died.
async fn outlive_the_poison(server: &Server, requests: &[String]) -> usize {
    let mut deaths = 0;
    loop {
        let (dies, mut death) = mpsc::unbounded_channel();
        let (life, never) = channel();
        let id = format!("w{deaths}");
        let mut worker = server.worker_apart(&id, Mortal { dies, never }).await;
        let (_drain, drained) = watch::channel(false);
        let working = tokio::spawn(async move { worker.run(drained).await });
        let all_over = async {
            for request in requests {
                eventually(async || (server.status(request).await["status"] == "COMPLETED").then_some(()))
                    .await;
            }
        };
        tokio::select! {
            biased;
            Some(()) = death.recv() => {}
            () = all_over => {
                working.abort();
                return deaths;
            }
        }
        working.abort(); // like kill -9: whatever it has in hand stays as it is
        let _ = working.await;
        drop::<Sender<()>>(life);
        server.queue.reclaim(Lost::Died(&id)).await.expect("a database");
        deaths += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_fails_after_three_deaths_and_no_neighbour_with_it() {
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

/// Generates at once and finishes when it is told to.
struct Finisher {
    finishing: mpsc::UnboundedSender<String>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Engine for Finisher {
    fn generate(
        &mut self,
        request: &ImageRequest,
        begin: Option<InitImage>,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        let pending = GreyEngine.generate(request, begin, observer)?;
        let (finishing, go_on, prompt) = (self.finishing.clone(), self.go_on.clone(), request.prompt.clone());
        Ok(Box::new(move || {
            let _ = finishing.send(prompt);
            let _ = go_on.lock().expect("one at a time").recv();
            pending()
        }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_tried_again_has_the_worker_to_itself() {
    let server = Server::start().await;
    let requests = [submit(&server, "again").await, submit(&server, "next").await];
    let models = crate::support::every_model();
    server.queue.claim("dead", &models).await.expect("a database").expect("a request");
    server.queue.reclaim(Lost::Died("dead")).await.expect("a database");
    let (finishing, mut finishes) = mpsc::unbounded_channel();
    let (go_on, waits) = channel();
    let engine = Finisher { finishing, go_on: Arc::new(Mutex::new(waits)) };
    let mut worker = server.worker("w", engine).await;
    let (drain, drained) = watch::channel(false);
    let working = tokio::spawn(async move { worker.run(drained).await });
    assert_eq!(finishes.recv().await.as_deref(), Some("again"));
    assert_eq!(server.status(&requests[1]).await["status"], "IN_QUEUE", "nothing beside a second try");
    for _ in &requests {
        go_on.send(()).expect("a worker");
    }
    assert_eq!(finishes.recv().await.as_deref(), Some("next"));
    for request in &requests {
        eventually(async || (server.status(request).await["status"] == "COMPLETED").then_some(())).await;
    }
    drain.send_replace(true);
    working.await.expect("no panic").expect("a clean end");
}
