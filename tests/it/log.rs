//! What `latentd serve --log` leaves out, its worker leaves out too; the line of each finished request, as text and as
//! JSON; and what a request's own log has.

use crate::databases;
use crate::support::{ENDPOINT, Program, Scripted, Server, eventually, exchange, signal, small, within};
use latentd::worker::Tick;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The longest that a request takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

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

/// What every line of a finished request has.
const FIELDS: [&str; 7] =
    ["client", "endpoint", "key", "outcome", "queue_seconds", "request_id", "run_seconds"];

/// The fields of a line of text, whose texts are quoted.
fn fields_of_text(line: &str) -> Option<Value> {
    let (_, fields) = line.split_once(" INFO latentd::request: request finished ")?;
    let field = |pair: &str| {
        let (name, value) = pair.split_once('=').expect("NAME=VALUE");
        (name.to_owned(), serde_json::from_str(value).expect("a quoted text or a number"))
    };
    Some(Value::Object(fields.split(' ').map(field).collect()))
}

/// The fields of a line of JSON. Every line is JSON.
fn fields_of_json(line: &str) -> Option<Value> {
    let Value::Object(mut line) = serde_json::from_str(line).expect("JSON") else {
        panic!("no object: {line}")
    };
    let taken: Map<_, _> = ["timestamp", "level", "target", "message"]
        .into_iter()
        .map(|name| (name.to_owned(), line.remove(name).expect("what every event has")))
        .collect();
    let is_ours = taken["target"] == "latentd::request" && taken["message"] == "request finished";
    is_ours.then_some(Value::Object(line))
}

/// The lines of three requests: one that succeeds, one with wrong input, and one that is cancelled.
async fn finished(folder: &Path, format: &str, read: fn(&str) -> Option<Value>) -> Vec<Value> {
    let (data, log) = (folder.join(format), folder.join(format!("{format}.log")));
    let mut keys = Command::new(env!("CARGO_BIN_EXE_latentd"));
    keys.args(["keys", "create", "--name", "studio", "--data-dir"]).arg(&data);
    let key = keys.envs(databases::environment_of(&data)).output().expect("the program").stdout;
    let key = String::from_utf8(key).expect("text").trim().to_owned();
    let flags = ["--log-format", format, "--trusted-proxy", "127.0.0.1"];
    let mut command = Program::command(&data, &flags);
    command.env("LATENTD_LOG", "info").stderr(File::create(&log).expect("a file"));
    let mut server = Program::spawn(&mut command);
    let call = |method: &str, path: &str, body: &Value| {
        let headers = format!("authorization: Key {key}\r\nx-forwarded-for: 10.9.9.9, 198.51.100.7\r\n");
        let (head, body) = exchange(&server.address, method, path, &headers, body.to_string().as_bytes());
        assert!(head.starts_with("HTTP/1.1 20"), "{head}");
        serde_json::from_slice::<Value>(&body).expect("JSON")["request_id"].as_str().map(str::to_owned)
    };
    let submit = |body: Value| call("POST", &format!("/queue/{ENDPOINT}"), &body).expect("an id");
    let ids = [small(), json!({ "prompt": 3 })].map(submit);
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).expect("text");
        text.lines().filter_map(read).collect()
    };
    within(LIMIT, async || (lines().len() == 2).then_some(())).await;
    let long = submit(json!({ "prompt": "a crash", "image_size": "square", "num_inference_steps": 50 }));
    call("PUT", &format!("/queue/{ENDPOINT}/requests/{long}/cancel"), &json!({}));
    within(LIMIT, async || (lines().len() == 3).then_some(())).await;
    signal("TERM", server.child.id());
    assert!(server.child.wait().expect("its end").success());
    let mut lines = lines();
    for id in ids.iter().chain([&long]) {
        assert_eq!(lines.iter().filter(|line| line["request_id"] == **id).count(), 1, "{id} in {lines:?}");
    }
    lines.sort_by_key(|line| line["outcome"].to_string());
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_request_is_one_line_with_the_same_fields_in_both_formats() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = finished(folder.path(), "text", fields_of_text).await;
    let json = finished(folder.path(), "json", fields_of_json).await;
    for lines in [text, json] {
        let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().expect("text")).collect();
        assert_eq!(outcomes, ["cancelled", "invalid", "succeeded"]);
        for line in &lines {
            let mut names: Vec<_> = line.as_object().expect("fields").keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, FIELDS, "{line}");
            let shown = [&line["endpoint"], &line["key"], &line["client"]];
            assert_eq!(shown, [ENDPOINT, "studio", "198.51.100.7"], "{line}");
            let seconds = ["queue_seconds", "run_seconds"].map(|name| line[name].as_f64().expect("a number"));
            assert!(seconds.iter().all(|seconds| (0.0..120.0).contains(seconds)), "{line}");
        }
        assert!(lines[2]["run_seconds"].as_f64() > Some(0.0), "{}", lines[2]);
        assert_eq!(lines[1]["run_seconds"].as_f64(), Some(0.0), "{}", lines[1]);
    }
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

/// Of a command line that is read but cannot be carried out, and of a failure later; whatever the filter is.
#[test]
fn the_error_with_which_a_program_ends_has_the_form_of_its_log() {
    let data = tempfile::tempdir().expect("a directory");
    for (flags, code, words) in [
        (&["--model", "/no/such"][..], 2, "/no/such"),
        (&["--log", "no[such"], 2, "--log no[such"),
        (&["--storage", "/dev/null/x", "--log", "off"], 1, "file storage: "),
    ] {
        let ended = |format: &[&str]| {
            let mut command = Program::command(data.path(), &[flags, format].concat());
            command.output().expect("the program")
        };
        let output = ended(&["--log-format", "json"]);
        let lines = String::from_utf8(output.stderr).expect("text");
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let last = lines.last().expect("a line");
        assert_eq!((output.status.code(), &last["level"]), (Some(code), &json!("ERROR")), "{last}");
        let message = last["message"].as_str().expect("a message");
        assert!(
            message.contains(words) && last["timestamp"].is_string() && last["target"] == "latentd",
            "{last}"
        );
        let plain = String::from_utf8(ended(&["--log-format", "text"]).stderr).expect("text");
        assert!(plain.ends_with(&format!("latentd: {message}\n")), "{plain}");
    }
}
