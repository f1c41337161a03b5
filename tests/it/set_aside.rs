//! A device whose workers fail again and again by their own fault: it is set aside, and the server says so.

use crate::databases;
use crate::support::{Program, signal, within};
use serde_json::{Value, json};
use std::io::{BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The longest that a worker takes to be replaced on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Failures within ten minutes after which a device is set aside.
const FAILURES: usize = 5;

/// What the server says in its log when that happens.
const LOG_LINE: &str = "the device is set aside";

/// Waits until a worker runs, and ends it by a signal.
async fn end_worker(server: &Program, name: &str) {
    let worker = within(LIMIT, async || server.workers().first().copied()).await;
    signal(name, worker);
    within(LIMIT, async || (!server.workers().contains(&worker)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_worker_crashes_five_times_is_set_aside_until_the_server_is_started_again() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::spawn(Program::command(data.path(), &[]).stderr(Stdio::piped()));
    let health = || server.call("GET", "/health/ready", &Value::Null);
    end_worker(&server, "KILL").await; // from outside: does not count
    for _ in 0..FAILURES {
        assert_eq!(health().1["devices_set_aside"], json!([]), "not yet");
        end_worker(&server, "ABRT").await;
    }
    let set_aside = async || (health().1["status"] == "every device is set aside").then(&health);
    let (code, body) = within(LIMIT, set_aside).await;
    assert_eq!((code, &body["workers"]["ready"]), (503, &json!(0)));
    let reason = "5 failures within 10 minutes, the last by an abort, as when the engine hangs (SIGABRT)";
    assert_eq!(body["devices_set_aside"], json!([{ "device": "cpu", "reason": reason }]));
    assert_eq!(server.call("GET", "/health", &Value::Null).1["devices_set_aside"], body["devices_set_aside"]);
    assert_eq!(server.call("GET", "/health/live", &Value::Null).0, 200);
    let (_, metrics) = server.exchange("GET", "/metrics", &Value::Null);
    assert!(metrics.contains("latentd_device_set_aside{device=\"cpu\"} 1"), "{metrics}");
    let accepted = server.submit(1);
    assert_eq!(server.status(&accepted)["status"], "IN_QUEUE", "requests are accepted and wait");
    let log = server.kill();
    assert_eq!(log.matches(LOG_LINE).count(), 1, "{log}");

    let server = Program::start(data.path());
    assert_eq!(server.completed(&accepted).await.get("error"), None);
    let (_, metrics) = server.exchange("GET", "/metrics", &Value::Null);
    assert!(metrics.contains("latentd_device_set_aside{device=\"cpu\"} 0"), "{metrics}");
}

/// By which its server knows that the device works, however many failures there were.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reports_a_finished_request_to_its_server() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::start_with(data.path(), &["--workers", "0"]);
    let mut worker = Command::new(env!("CARGO_BIN_EXE_latentd"));
    worker.args(["worker", "--log", "warn", "--device", "cpu", "--supervised-as", "w", "--data-dir"]);
    worker.arg(data.path()).envs(databases::environment_of(data.path()));
    let mut worker = worker.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program");
    let output = worker.stdout.take().expect("its output");
    let (send, reports) = mpsc::channel();
    let read = move || {
        for byte in BufReader::new(output).bytes().map_while(Result::ok).filter(|byte| *byte == b'+') {
            let _ = send.send(byte);
        }
    };
    let reader = std::thread::spawn(read);
    for _ in 0..2 {
        let request = server.submit(1);
        assert_eq!(server.completed(&request).await.get("error"), None);
        reports.recv_timeout(LIMIT).expect("a report");
    }
    drop(worker.stdin.take()); // ends it
    worker.wait().expect("its end");
    reader.join().expect("no panic");
    assert_eq!(reports.iter().count(), 0, "one for each request");
}
