//! What `latentd serve --log` leaves out, its worker leaves out too; and what a request's own log has.

use crate::support::{GreyEngine, Server, small};
use latentd::engine::{Engine, EngineError, InitImage, Observer, PendingImages};
use latentd::worker::Tick;
use latentd_request::ImageRequest;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

fn is_ready(address: &str) -> bool {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!("GET /health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("a request sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.starts_with("HTTP/1.1 200 ")
}

/// What a server and its worker log from their start to their end.
async fn logged(filter: &str) -> String {
    let data = tempfile::tempdir().expect("a directory");
    let log = data.path().join("log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_latentd"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log", filter, "--data-dir"])
        .arg(data.path().join("data"))
        .env_remove("LATENTD_LOG")
        .stdout(Stdio::piped())
        .stderr(File::create(&log).expect("a file"))
        .spawn()
        .expect("the program");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let first = lines.next().expect("a line").expect("text");
    let address = first.split("http://").nth(1).expect("a URL").to_owned();
    std::thread::spawn(move || lines.for_each(drop));
    crate::support::eventually(async || is_ready(&address).then_some(())).await;
    let ended = Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert!(ended.success() && child.wait().expect("its end").success());
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

/// Says something of every request before it begins.
struct Noting;

const NOTE: &str = "the prompt is cut after 77 tokens for CLIP-L and CLIP-G: \"by a lake\" is left out";

impl Engine for Noting {
    fn generate(
        &mut self,
        request: &ImageRequest,
        begin: Option<InitImage>,
        observer: &mut dyn Observer,
    ) -> Result<PendingImages, EngineError> {
        observer.note(NOTE);
        GreyEngine.generate(request, begin, observer)
    }
}

#[tokio::test]
async fn what_the_engine_notes_is_a_warning_in_the_requests_log() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let mut worker = server.worker("w", Noting).await;
    assert_eq!(worker.tick().await.expect("an engine"), Tick::Worked);
    let status = server.get(&format!("{request}/status?logs=1")).await.json();
    let logs = status["logs"].as_array().expect("logs");
    let line = logs.iter().find(|line| line["message"] == NOTE).expect("the note");
    assert_eq!(line["level"], "WARN", "{line}");
}
