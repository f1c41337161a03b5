//! Traces of requests over both processes, as a collector gets them.

mod collector;

use crate::support::{ENDPOINT, Program, exchange, signal, small, small_with, within};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use collector::{Collector, Received};
use serde_json::Value;
use std::fs::File;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// The longest that a request takes on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The trace and the span of a caller.
const TRACE: [u8; 16] =
    [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c];
const CALLER: [u8; 8] = [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31];
const TRACEPARENT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";

/// An input with an initial image, of three steps.
fn from_image() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images/red-house.jpg");
    let image = BASE64_STANDARD.encode(std::fs::read(path).expect("an image"));
    let mut input = small_with("image_url", format!("data:image/jpeg;base64,{image}"));
    input["strength"] = 1.0.into();
    input
}

fn post(program: &Program, path: &str, headers: &str, input: &Value) -> Value {
    let (head, body) = exchange(&program.address, "POST", path, headers, input.to_string().as_bytes());
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    serde_json::from_slice(&body).expect("JSON")
}

/// Ends a server as an operator does.
fn stop(mut program: Program) {
    signal("TERM", program.child.id());
    assert!(program.child.wait().expect("its end").success());
}

/// Names of spans with those of their parents, sorted.
fn tree(spans: &[Received]) -> Vec<(String, String)> {
    let name = |id: &[u8]| match spans.iter().find(|other| other.span.span_id == id) {
        Some(parent) => parent.span.name.clone(),
        None if id == CALLER => "the caller".to_owned(),
        None => format!("{id:?}"),
    };
    let mut tree: Vec<_> =
        spans.iter().map(|it| (name(&it.span.parent_span_id), it.span.name.clone())).collect();
    tree.sort();
    tree
}

/// What the worker does, but for what it fetches.
const STAGES: [&str; 8] = [
    "decode",
    "denoising step",
    "denoising step",
    "denoising step",
    "encode images",
    "encode prompts",
    "finish",
    "store files",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_caller_to_the_steps_of_the_worker() {
    let (collector, data) = (Collector::start().await, tempfile::tempdir().expect("a directory"));
    let flags = ["--otlp-endpoint", &collector.url, "--otlp-service-name", "images"];
    let program = Program::start_with(data.path(), &flags);
    let path = format!("/queue/{ENDPOINT}/image-to-image");
    let answer = post(&program, &path, TRACEPARENT, &from_image());
    let id = answer["request_id"].as_str().expect("an id").to_owned();
    let status = program.completed(&format!("/queue/{ENDPOINT}/requests/{id}")).await;
    assert_eq!(status.get("error"), None, "{status}");
    // Its spans are sent although the server ends at once.
    stop(program);

    let spans = collector.trace(&TRACE);
    let mut expected: Vec<_> = STAGES.iter().map(|name| ("worker", *name)).collect();
    expected.extend([("worker", "fetch initial image"), ("the caller", "submit")]);
    expected.extend([("submit", "queue"), ("submit", "worker")]);
    if spans.iter().any(|it| it.span.name == "load model") {
        expected.push(("worker", "load model"));
    }
    expected.sort();
    let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert_eq!(tree(&spans), expected);

    let one = |name: &str| spans.iter().find(|it| it.span.name == name).expect("a span");
    for it in &spans {
        assert_eq!(it.service, "images");
        assert!(it.span.start_time_unix_nano <= it.span.end_time_unix_nano, "{it:?}");
        let worker = &one("worker").span;
        if it.span.parent_span_id == worker.span_id {
            assert!(it.span.start_time_unix_nano >= worker.start_time_unix_nano, "{it:?}");
            assert!(it.span.end_time_unix_nano <= worker.end_time_unix_nano, "{it:?}");
        }
    }
    for name in ["submit", "queue", "worker"] {
        assert_eq!(one(name).attributes["latentd.request"], id, "{name}");
    }
    assert_eq!(one("submit").attributes["http.response.status_code"], "200");
    let steps = spans.iter().filter(|it| it.span.name == "denoising step");
    let steps: Vec<_> = steps.map(|it| it.attributes["latentd.step"].as_str()).collect();
    assert_eq!(steps, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_caller_s_trace_a_call_begins_one_and_a_failure_is_marked() {
    let (collector, data) = (Collector::start().await, tempfile::tempdir().expect("a directory"));
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_ref())];
    let program = Program::start_in(data.path(), &[], &environment);
    post(&program, &format!("/run/{ENDPOINT}"), "", &small());
    let gone = small_with("image_url", "http://127.0.0.1:1/gone.png");
    program.call("POST", &format!("/run/{ENDPOINT}/image-to-image"), &gone);
    stop(program);

    let runs = collector.named("run");
    assert_eq!(runs.len(), 2, "{runs:?}");
    for (run, has_failed) in runs.iter().zip([false, true]) {
        assert!(run.span.parent_span_id.is_empty() && run.service == "latentd", "{run:?}");
        let spans = collector.trace(&run.span.trace_id);
        let worker = spans.iter().find(|it| it.span.name == "worker").expect("the worker's span");
        assert_eq!(worker.span.parent_span_id, run.span.span_id);
        let status = worker.span.status.clone().unwrap_or_default();
        assert_eq!(!status.message.is_empty(), has_failed, "{status:?}");
        assert_eq!(worker.attributes.contains_key("latentd.failure"), has_failed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_changes_no_request() {
    // It takes connections and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_url = format!("http://{}", silent.local_addr().expect("an address"));
    for url in ["http://127.0.0.1:1", &silent_url] {
        let data = tempfile::tempdir().expect("a directory");
        let log = data.path().join("log");
        let mut command = Program::command(&data.path().join("data"), &["--otlp-endpoint", url]);
        let program = Program::spawn(command.stderr(File::create(&log).expect("a file")));
        for _ in 0..2 {
            let answer = post(&program, &format!("/run/{ENDPOINT}"), TRACEPARENT, &small());
            assert!(answer["images"][0]["url"].is_string(), "{answer}");
        }
        // The server and its worker say it once each.
        let warnings = || {
            let log = std::fs::read_to_string(&log).expect("text");
            log.lines().filter(|line| line.contains("spans cannot be sent to")).count()
        };
        within(LIMIT, async || (warnings() == 2).then_some(())).await;
        let began = Instant::now();
        stop(program);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        assert_eq!(warnings(), 2);
    }
}
