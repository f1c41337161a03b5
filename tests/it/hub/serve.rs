//! From a hub to an image: `latentd serve --model owner/name` on a machine that has nothing yet.

use super::*;
use crate::support::ENDPOINT;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// In another thread, for the hub answers in this one.
    async fn start(hub: &StandIn, home: &TempDir, flags: &[&str]) -> Self {
        let mut command = program(hub, home);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--safety-checker", "none"])
            .args(flags);
        let start = move || {
            let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program");
            let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
            let first = lines.next().expect("a line").expect("text");
            let address = first.split("http://").nth(1).expect("a URL").to_owned();
            std::thread::spawn(move || lines.for_each(drop));
            Self { child, address }
        };
        tokio::task::spawn_blocking(start).await.expect("a server")
    }

    /// An image's bytes.
    async fn generate(&self) -> Vec<u8> {
        let address = self.address.clone();
        let generate = move || {
            let input = json!({
                "prompt": "a fox", "image_size": { "width": 64, "height": 64 }, "num_inference_steps": 2, "seed": 7,
                "output_format": "png",
            });
            let answer = call(&address, "POST", &format!("/run/{ENDPOINT}"), &input);
            let output: Value = serde_json::from_slice(&answer).expect("JSON");
            let url = output["images"][0]["url"].as_str().unwrap_or_else(|| panic!("{output}")).to_owned();
            let path = url.split_once(&address).expect("our URL").1;
            call(&address, "GET", path, &Value::Null)
        };
        tokio::task::spawn_blocking(generate).await.expect("an image")
    }
}

fn call(address: &str, method: &str, path: &str, body: &Value) -> Vec<u8> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut stream = TcpStream::connect(address).expect("a connection");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).expect("a request sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    assert!(
        answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    answer.split_off(end + 4)
}

#[tokio::test]
async fn a_model_of_the_hub_is_pulled_served_and_generated_with() {
    let (hub, home) = hub().await;
    let server = Server::start(&hub, &home, &["--model", NAME]).await;
    let image = server.generate().await;
    drop(server);

    let asked = hub.calls().len();
    let server = Server::start(&hub, &home, &["--model", NAME, "--offline"]).await;
    assert_eq!(server.generate().await, image, "the same from the cache");
    drop(server);
    let by_path = golden();
    let server = Server::start(&hub, &home, &["--model", by_path.to_str().expect("UTF-8")]).await;
    assert_eq!(server.generate().await, image, "and from the directory that the hub has");
    assert_eq!(hub.calls().len(), asked);
}

#[tokio::test]
async fn generate_pulls_too_and_knows_revisions() {
    let (hub, home) = hub().await;
    let mut command = program(&hub, &home);
    command.args(["generate", "a fox", "--steps", "2", "--width", "64", "--height", "64", "--model", NAME]);
    command
        .args(["--safety-checker", "none", "--revision", stand_in::COMMIT, "--output"])
        .arg(home.path().join("fox.png"));
    let output = output(command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(home.path().join("fox.png").exists());
}

#[tokio::test]
async fn a_wrong_command_line_fetches_nothing() {
    let (hub, home) = hub().await;
    let mut command = program(&hub, &home);
    command.args(["serve", "--model", NAME, "--workers", "many"]);
    let output = output(command).await;
    assert_eq!((output.status.code(), hub.connections()), (Some(2), 0));
}

/// The safety checker is the hub's too, for a model that has none.
#[tokio::test]
async fn the_usual_safety_checker_is_pulled_with_the_model() {
    let classifier = golden().join("../../safety/plain");
    let repositories = [
        (NAME.to_owned(), tiny()),
        ("Falconsai/nsfw_image_detection".to_owned(), Repository::of(&classifier)),
    ];
    let (hub, home) = (StandIn::start(repositories).await, tempfile::tempdir().expect("a directory"));
    for offline in [&[][..], &["--offline"]] {
        let mut command = program(&hub, &home);
        command
            .args(["generate", "a fox", "--steps", "2", "--width", "64", "--height", "64", "--model", NAME]);
        command.args(["--safety-threshold", "0", "--json"]).args(offline);
        command.arg("-o").arg(home.path().join("fox.png"));
        let output = output(command).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["has_nsfw_concepts"], json!([true]));
    }
}
