//! What `latentd serve --log` leaves out, its worker leaves out too; and what a request's own log has.

use crate::support::{Program, Scripted, Server, eventually, signal, small};
use latentd::worker::Tick;
use serde_json::Value;
use std::fs::File;

/// What a server and its worker log from their start to their end.
async fn logged(filter: &str) -> String {
    let data = tempfile::tempdir().expect("a directory");
    let log = data.path().join("log");
    let mut command = Program::command(&data.path().join("data"), &["--log", filter]);
    command.env_remove("LATENTD_LOG").stderr(File::create(&log).expect("a file"));
    let mut program = Program::spawn(&mut command);
    eventually(async || (program.call("GET", "/health/ready", &Value::Null).0 == 200).then_some(())).await;
    signal("TERM", program.child.id());
    assert!(program.child.wait().expect("its end").success());
    std::fs::read_to_string(log).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_logs_what_the_server_logs() {
    let all = logged("info").await;
    assert!(all.contains("the model is loaded") && all.contains("worker started"), "{all}");
    let less = logged("warn").await;
    assert!(!less.contains("INFO"), "{less}");
    let of_workers = logged("latentd::worker=info").await;
    assert!(
        of_workers.contains("the model is loaded") && !of_workers.contains("worker started"),
        "{of_workers}"
    );
}

/// Neither the server nor its worker ends because its log cannot be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_disk_costs_no_request() {
    let data = tempfile::tempdir().expect("a directory");
    let full = File::options().write(true).open("/dev/full").expect("Linux");
    let mut command = Program::command(data.path(), &["--log", "debug"]);
    command.env_remove("LATENTD_LOG").stderr(full);
    let server = Program::spawn(&mut command);
    let request = server.submit(2);
    assert_eq!(server.completed(&request).await.get("error"), None);
}

const NOTE: &str = "the prompt is cut after 77 tokens for CLIP-L and CLIP-G: \"by a lake\" is left out";

#[tokio::test]
async fn what_the_engine_notes_is_a_warning_in_the_requests_log() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let engine = Scripted::new(|call| {
        call.observer.note(NOTE);
        call.grey()
    });
    let mut worker = server.worker("w", engine).await;
    assert_eq!(worker.tick().await.expect("an engine"), Tick::Worked);
    let status = server.get(&format!("{request}/status?logs=1")).await.json();
    let logs = status["logs"].as_array().expect("logs");
    let line = logs.iter().find(|line| line["message"] == NOTE).expect("the note");
    assert_eq!(line["level"], "WARN", "{line}");
}
