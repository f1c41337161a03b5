//! Clients that hold connections and do not read: they lose them to clients that do.

use crate::attack::{Attacked, many_files};
use crate::support::{ENDPOINT, eventually, small, within};
use serde_json::json;
use std::cell::Cell;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The smallest that the system grants.
const TINY: Option<u32> = Some(2048);

const PAGE: &str = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Opens connections, each of which asks for something and reads nothing.
async fn hold(program: &Attacked, from: &str, count: usize, ask: &str) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = program.connect(from, TINY).await.expect("a connection");
        // A server that has closed it already is not what is looked at.
        let _ = stream.write_all(ask.as_bytes()).await;
        held.push(stream);
    }
    held
}

/// How long health checks and submits take one after the other, during an attack and when all of it is there; every one
/// must be answered.
async fn serves(
    program: &Attacked,
    from: &str,
    attack: impl Future<Output = Vec<TcpStream>>,
) -> Vec<TcpStream> {
    let is_over = Cell::new(false);
    let attack = async {
        let held = attack.await;
        is_over.set(true);
        held
    };
    let mut times = Vec::new();
    let head = format!("POST /queue/{ENDPOINT} HTTP/1.1");
    let body = small().to_string();
    let calls = async {
        let mut since = 0;
        while since < 40 {
            times.push(program.is_live(from).await.expect("an answer in the middle of an attack"));
            let begun = Instant::now();
            let answer = program.call(from, &head, body.as_bytes()).await;
            let (status, answer) = answer.expect("an answer in the middle of an attack");
            assert_eq!(status, 200, "{answer}");
            times.push(begun.elapsed());
            since += if is_over.get() { 2 } else { 0 };
        }
    };
    let (held, ()) = tokio::join!(attack, calls);
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{} calls meanwhile: p50 {:?}, p95 {:?}, all within {:?}",
        times.len(),
        at(0.5),
        at(0.95),
        at(1.0)
    );
    assert!(at(0.95) < Duration::from_secs(5), "p95 {:?}", at(0.95));
    held
}

#[tokio::test]
async fn clients_that_do_not_read_do_not_stop_the_server() {
    many_files();
    // Nothing takes from the queue what the calls meanwhile put into it.
    let program = Attacked::start(&["--workers", "0", "--max-queue", "1000000"], None);
    let _ = program.is_live("127.0.0.1").await.expect("a server that lives");
    let baseline = program.memory().baseline("8,300 connections that pipeline and do not read");
    let pipelined = PAGE.repeat(24);
    let attack = hold(&program, "127.0.0.2", 8300, &pipelined);
    let held = serves(&program, "127.0.0.1", attack).await;
    // So is a client at the very address that they come from.
    eventually(async || program.is_live("127.0.0.2").await).await;
    baseline.assert_bounded();
    drop(held);
    baseline.returns().await;
}

#[tokio::test]
async fn idle_clients_do_not_take_all_the_files_that_may_be_open() {
    many_files();
    let program = Attacked::start(&["--workers", "0", "--max-queue", "1000000"], Some(1024));
    let baseline = program.memory().baseline("1,100 idle connections under `ulimit -n 1024`");
    let held = serves(&program, "127.0.0.1", hold(&program, "127.0.0.2", 1100, "")).await;
    eventually(async || program.is_live("127.0.0.2").await).await;
    let slow = serves(
        &program,
        "127.0.0.1",
        hold(&program, "127.0.0.2", 1100, "GET / HTTP/1.1\r\nhost: localhost\r\nx: "),
    )
    .await;
    drop((held, slow));
    baseline.returns().await;
}

/// One request whose result has an image inside, asked for again and again.
#[tokio::test]
async fn large_results_that_nobody_reads_are_bounded_together() {
    many_files();
    let program = Attacked::start(&["--safety-checker", "none"], None);
    let size = json!({ "width": 1024, "height": 1024 });
    let input = json!({ "prompt": "x", "num_inference_steps": 1, "image_size": size, "output_format": "png",
        "num_images": 4, "sync_mode": true })
    .to_string();
    let head = |path: &str| format!("POST /run/{ENDPOINT}{path} HTTP/1.1\r\nidempotency-key: k");
    let first = async || {
        let answer = program.call("127.0.0.1", &head(""), input.as_bytes()).await;
        answer.filter(|(status, _)| *status == 200)
    };
    let (_, result) = within(Duration::from_secs(60), first).await;
    let bytes = result.to_string().len();
    assert!(bytes > 2_000_000, "{bytes} bytes");
    let baseline = program.memory().baseline("400 readers of a result with an image, who read nothing");
    for path in ["", "/stream"] {
        let rest = format!("host: localhost\r\ncontent-length: {}\r\n\r\n{input}", input.len());
        let ask = format!("{}\r\n{rest}", head(path));
        let held = hold(&program, "127.0.0.2", 400, &ask).await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            baseline.assert_bounded();
        }
        assert!(program.is_live("127.0.0.1").await.is_some());
        drop(held);
    }
    baseline.returns().await;
}

#[tokio::test]
async fn everybody_who_loads_a_page_shares_its_bytes() {
    many_files();
    let program = Attacked::start(&["--workers", "0"], None);
    let baseline = program.memory().baseline("1,500 readers of the documents");
    for path in ["/docs/swagger-ui-bundle.js", "/openapi.json", "/playground/main.js"] {
        let ask = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let held = hold(&program, "127.0.0.2", 1500, &ask).await;
        assert!(program.is_live("127.0.0.1").await.is_some());
        baseline.assert_bounded();
        drop(held);
    }
    baseline.returns().await;
}
