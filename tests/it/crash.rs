//! The real program: `latentd serve` with its worker, killed and stopped in the middle of things.

use crate::support::{ENDPOINT, Program, attempts, eventually, files, signal};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_worker_costs_one_more_attempt_and_no_result() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::start(data.path());
    let request = server.submit(50);
    server.running(&request).await;
    let before = server.workers();
    assert_eq!(before.len(), 1);
    signal("KILL", before[0]);
    let status = server.completed(&request).await;
    assert_eq!((status.get("error"), attempts(&status)), (None, 2), "{status}");
    let (code, result) = server.call("GET", &request, &Value::Null);
    assert_eq!((code, result["images"].as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(files(&data.path().join("files")).len(), 1);
    assert_ne!(server.workers(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_server_takes_its_worker_along_and_loses_nothing() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::start(data.path());
    let running = server.submit(50);
    let waiting = server.submit(1);
    server.running(&running).await;
    let worker = server.workers()[0];
    drop(server);
    eventually(async || (!Path::new(&format!("/proc/{worker}")).exists()).then_some(())).await;

    let server = Program::start(data.path());
    let first = server.completed(&running).await;
    let second = server.completed(&waiting).await;
    assert_eq!((attempts(&first), attempts(&second)), (2, 1));
    let begun = |status: &Value| {
        status["logs"].as_array().and_then(|logs| logs.last()).expect("a line")["timestamp"].to_string()
    };
    assert!(begun(&first) < begun(&second), "the interrupted request went first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_stop_finishes_the_request_in_hand() {
    let data = tempfile::tempdir().expect("a directory");
    let mut server = Program::start(data.path());
    let request = server.submit(20);
    let waiting = server.submit(1);
    server.running(&request).await;
    signal("TERM", server.child.id());
    let code = tokio::task::spawn_blocking(move || server.child.wait().map(|status| status.code()));
    assert_eq!(code.await.expect("no panic").expect("an end"), Some(0));

    let server = Program::start(data.path());
    let status = server.status(&request);
    assert_eq!((&status["status"], attempts(&status)), (&json!("COMPLETED"), 1), "{status}");
    assert_eq!(server.completed(&waiting).await.get("error"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_keeps_out_of_a_data_directory_in_use() {
    let data = tempfile::tempdir().expect("a directory");
    let _server = Program::start(data.path());
    let second = Command::new(env!("CARGO_BIN_EXE_latentd"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data.path())
        .output()
        .expect("the program");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another"));
}

#[test]
fn a_command_line_that_cannot_be_carried_out_says_why_and_exits_with_2() {
    let cases: [(&[&str], &str); 13] = [
        (&["serve", "--listen", "0.0.0.0:0"], "--api-key"),
        (&["serve", "--model", "no/such/model"], "mini"),
        (&["serve", "--device", "cuda:0"], "CUDA"),
        (&["serve", "--dtype", "fp8"], "fp8"),
        (&["serve", "--workers", "some"], "auto"),
        (&["serve", "--database-url", "mysql://x/y"], "sqlite:PATH"),
        (&["serve", "--storage", "gs://bucket"], "s3://BUCKET"),
        (&["serve", "--storage", "s3://bucket?secret=x"], "no parameter `secret`"),
        (&["worker", "--device", "cpu,cpu"], "one device"),
        (&["serve", "--model", "mini", "--model", "mini"], "twice"),
        (&["serve", "--model", "other=mini"], "no published model"),
        (&["serve", "--memory-budget", "much"], "such as 40GB"),
        (&["serve", "--memory-budget", "1MB"], "mini takes"),
    ];
    for (arguments, word) in cases {
        let output =
            Command::new(env!("CARGO_BIN_EXE_latentd")).args(arguments).output().expect("the program");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {error}");
        assert!(error.contains(word) && error.lines().count() == 1, "{arguments:?} {error}");
    }
}

#[tokio::test]
async fn a_webhook_on_its_way_is_sent_again_after_a_kill() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", receiver.local_addr().expect("an address"));
    let program = Program::start(data.path());
    let (code, body) =
        program.call("POST", &format!("/queue/{ENDPOINT}?fal_webhook={url}"), &json!({ "prompt": 1 }));
    assert_eq!(code, 200, "{body}");
    let first = message(&receiver).await;
    drop(program); // kill -9, before the receiver has answered
    let _program = Program::start(data.path());
    let again = message(&receiver).await;
    assert!(first.contains(body["request_id"].as_str().expect("an id")), "{first}");
    assert_eq!(again, first);
}

/// The body of the next message, which is left unanswered.
async fn message(receiver: &tokio::net::TcpListener) -> String {
    use tokio::io::AsyncReadExt;
    let read = async {
        let (mut stream, _) = receiver.accept().await.expect("a connection");
        let mut text = String::new();
        while !text.ends_with("}]}}") {
            let mut part = [0; 4096];
            let size = stream.read(&mut part).await.expect("a message");
            assert!(size > 0, "the message broke off: {text}");
            text += std::str::from_utf8(&part[..size]).expect("text");
        }
        text.split_once("\r\n\r\n").expect("a head").1.to_owned()
    };
    // The deadline only ends a test that has failed.
    tokio::time::timeout(std::time::Duration::from_secs(30), read).await.expect("a message in time")
}
