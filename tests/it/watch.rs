//! The real program's watch over its workers: what is stopped or killed is replaced, what it had in hand is put back
//! whatever the database does, and `/health/ready` and statuses stay true meanwhile.

use crate::databases;
use crate::faults::Lock;
use crate::support::{Program, attempts, messages, signal, steps_of_attempt, within};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Workers that a test disturbs at once, and how often it does.
const WORKERS: usize = 5;
const ROUNDS: usize = 4;

/// Ends a test that has failed: five workers on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// Submits a request of some fast steps, of which one has to be seen.
fn submit(server: &Program) -> String {
    server.submit_input(&json!({ "prompt": "a watch", "image_size": { "width": 256, "height": 256 },
        "num_inference_steps": 25, "seed": 1 }))
}

fn ready(server: &Program) -> (u16, Value) {
    let (code, body) = server.call("GET", "/health/ready", &Value::Null);
    (code, body["workers"]["ready"].clone())
}

/// Waits until every worker is ready.
async fn all_ready(server: &Program, workers: usize) {
    within(PATIENCE, async || (ready(server) == (200, json!(workers))).then_some(())).await;
}

/// Waits until each of the requests has taken a step in the attempt of this number.
async fn in_engines(server: &Program, requests: &[String], attempt: usize) {
    for request in requests {
        let begun = async || {
            let status = server.status(request);
            let has_begun =
                (attempt..=attempts(&status)).any(|one| !steps_of_attempt(&status, one).is_empty());
            (has_begun || status["status"] == "COMPLETED").then_some(())
        };
        within(PATIENCE, begun).await;
    }
}

/// Waits until all are over; asserts that none failed, and how many attempts all of them took.
async fn all_well(server: &Program, requests: &[String], most_attempts: usize) {
    let mut begun = 0;
    for request in requests {
        let status = server.completed(request).await;
        assert_eq!(status.get("error"), None, "{status}");
        begun += attempts(&status);
    }
    assert!(begun > requests.len() && begun <= most_attempts, "{begun} attempts");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_workers_are_replaced_and_their_requests_end_well() {
    let data = tempfile::tempdir().expect("a directory");
    let workers = WORKERS.to_string();
    let server = Program::start_with(data.path(), &["--workers", &workers, "--worker-timeout", "3"]);
    let mut requests = Vec::new();
    for _ in 0..ROUNDS {
        all_ready(&server, WORKERS).await;
        let round: Vec<_> = (0..WORKERS).map(|_| submit(&server)).collect();
        in_engines(&server, &round, 1).await;
        let stopped = server.workers();
        assert_eq!(stopped.len(), WORKERS);
        stopped.iter().for_each(|worker| signal("STOP", *worker));
        // A stopped worker does not count as ready.
        within(PATIENCE, async || (ready(&server) == (503, json!(0))).then_some(())).await;
        let replaced = async || {
            let now = server.workers();
            (now.len() == WORKERS && !now.iter().any(|worker| stopped.contains(worker))).then_some(())
        };
        within(PATIENCE, replaced).await;
        requests.extend(round);
    }
    all_well(&server, &requests, 2 * ROUNDS * WORKERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_killed_workers_are_put_back_when_the_database_is_free_again() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::start_with(data.path(), &["--workers", &WORKERS.to_string()]);
    let mut requests = Vec::new();
    for _ in 0..ROUNDS {
        all_ready(&server, WORKERS).await;
        let round: Vec<_> = (0..WORKERS).map(|_| submit(&server)).collect();
        in_engines(&server, &round, 1).await;
        let lock = Lock::take(&data.path().join("latentd.sqlite")).await;
        server.workers().iter().for_each(|worker| signal("KILL", *worker));
        within(PATIENCE, async || (ready(&server).0 == 503).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(5500)).await; // longer than SQLite itself waits
        lock.release().await;
        let freed = Instant::now();
        let running =
            |request: &String| messages(&server.status(request)).iter().any(|line| line.contains("died"));
        let done = |request: &String| server.status(request)["status"] == "COMPLETED";
        let put_back = async || round.iter().all(|one| running(one) || done(one)).then_some(());
        within(PATIENCE, put_back).await;
        assert!(freed.elapsed() < Duration::from_secs(10), "{:?}", freed.elapsed());
        requests.extend(round);
    }
    all_well(&server, &requests, 2 * ROUNDS * WORKERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_not_ready_from_the_moment_of_its_death() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::start(data.path());
    // The second death within a minute is followed by a pause, which cannot be missed.
    for _ in 0..2 {
        all_ready(&server, 1).await;
        signal("KILL", server.workers()[0]);
        let killed = Instant::now();
        let unready = within(PATIENCE, async || (ready(&server).0 == 503).then(|| killed.elapsed()));
        match tokio::time::timeout(Duration::from_secs(2), unready).await {
            Ok(took) => assert!(took < Duration::from_secs(2), "{took:?}"),
            Err(_) => assert_eq!(ready(&server).0, 200, "replaced before anybody could ask"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_the_machine_down_three_times_fails_and_the_others_do_not() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Program::start(data.path());
    // It gets no further from one attempt to the next: nothing is saved of a request of one step.
    let poison = server.submit_input(&json!({ "prompt": "poison", "num_inference_steps": 1, "num_images": 4,
        "image_size": { "width": 1024, "height": 1024 } }));
    let others = [server.submit(1), server.submit(1)];
    for attempt in 1..=3 {
        in_engines(&server, std::slice::from_ref(&poison), attempt).await;
        // Like a container that runs out of memory: the worker has no time to say that it lives.
        let worker = server.workers()[0];
        signal("STOP", worker);
        drop(server); // kills it
        signal("KILL", worker);
        server = Program::start(data.path());
    }
    for other in &others {
        assert_eq!(server.completed(other).await.get("error"), None);
    }
    let (code, body) = server.call("GET", &poison, &Value::Null);
    assert_eq!(code, 500, "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("died 3 times")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_again_and_again_costs_no_request() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Program::start(data.path());
    let request = server.submit(50);
    for attempt in 1..=4 {
        in_engines(&server, std::slice::from_ref(&request), attempt).await;
        let worker = format!("/proc/{}", server.workers()[0]);
        drop(server); // kills it; its worker lives and puts the request back
        within(PATIENCE, async || (!std::path::Path::new(&worker).exists()).then_some(())).await;
        server = Program::start(data.path());
    }
    assert_eq!(server.completed(&request).await.get("error"), None);
}

/// `latentd worker` in the data directory of a server.
fn lone_worker(data: &Path) -> Child {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_latentd"));
    worker.args(["worker", "--log", "warn", "--device", "cpu", "--data-dir"]).arg(data);
    worker.envs(databases::environment_of(data)).stdin(Stdio::null()).stdout(Stdio::null());
    worker.spawn().expect("the program")
}

/// Nobody waits for the end of its lease.
#[tokio::test(flavor = "multi_thread")]
async fn the_request_of_a_killed_worker_that_has_no_supervisor_goes_on_at_once() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::start_with(data.path(), &["--workers", "0"]);
    let mut first = lone_worker(data.path());
    let request = server.submit(50);
    in_engines(&server, std::slice::from_ref(&request), 1).await;
    first.kill().expect("a process");
    first.wait().expect("its end");
    let mut second = lone_worker(data.path());
    let status = server.completed(&request).await;
    second.kill().expect("a process");
    second.wait().expect("its end");
    assert_eq!(status.get("error"), None, "{status}");
    let lines = messages(&status);
    assert!(lines.iter().any(|line| line.starts_with("the worker died;")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("fell silent")), "not by its lease: {lines:?}");
}
