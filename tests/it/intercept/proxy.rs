//! What the port answers to programs that take it for their proxy, or for something else.

use super::port::{Port, call};
use crate::support::{ENDPOINT, small};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The status line of the answer to a `CONNECT`.
async fn connect(port: &Port, target: &str) -> String {
    let answer = port.say(&format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let line = head.lines().next().unwrap_or_default().to_owned();
    // What the status line says is said again where longer answers are read.
    assert!(body.is_empty() || line.ends_with(body.trim()), "{answer}");
    line
}

#[tokio::test]
async fn other_hosts_and_ports_are_refused_with_the_way_out() {
    let port = Port::start().await;
    let cases = [
        ("example.com:443", "403", "--intercept-tunnel, or NO_PROXY=example.com"),
        ("fal.run.example.com:443", "403", "--intercept-tunnel"),
        ("127.0.0.1:443", "403", "--intercept-tunnel"),
        ("[::1]:443", "403", "--intercept-tunnel"),
        ("fal.run:80", "403", "port 443"),
        ("fal.run", "400", "host and a port"),
        ("example.com@fal.run:443", "400", "host and a port"),
        ("fal.run:99999", "400", ""),
        ("/", "400", ""),
    ];
    for (target, status, words) in cases {
        let line = connect(&port, target).await;
        assert!(line.starts_with(&format!("HTTP/1.1 {status} ")) && line.contains(words), "{target}: {line}");
    }
}

#[tokio::test]
async fn fals_names_are_known_however_they_are_written() {
    let port = Port::start().await;
    for target in ["FAL.RUN:443", "queue.fal.run.:443"] {
        let stream = port.tls("queue.fal.run", port.tunnel(target).await).await.expect("trusted");
        let (status, _) = call(stream, "queue.fal.run", &format!("/{ENDPOINT}"), &small()).await;
        assert!(status.is_success(), "{target}");
    }
}

#[tokio::test]
async fn plain_http_is_refused_clearly() {
    let port = Port::start().await;
    let answer = port.say("GET http://example.com/ HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("HTTPS_PROXY"), "{answer}");
    let answer = port.say("POST http://fal.run/a HTTP/1.1\r\nhost: fal.run\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let answer = port.say("GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("--intercept"), "{answer}");
}

#[tokio::test]
async fn a_program_that_leaves_tls_to_its_proxy_is_served() {
    let port = Port::start().await;
    let body = small().to_string();
    let head = format!(
        "POST https://queue.fal.run/{ENDPOINT} HTTP/1.1\r\nhost: queue.fal.run\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = port.say(&(head + &body)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(&format!("\"https://queue.fal.run/{ENDPOINT}/requests/")), "{answer}");
    let answer = port.say("GET https://example.com/ HTTP/1.1\r\nhost: example.com\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn a_huge_head_is_refused() {
    let port = Port::start().await;
    let mut stream = TcpStream::connect(port.address).await.expect("a connection");
    let head = format!("CONNECT fal.run:443 HTTP/1.1\r\nx: {}", "y".repeat(70 * 1024));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[tokio::test]
async fn who_is_slow_is_cut_off() {
    let port = Port::start().await;
    // From now on the clock stands, and jumps to the next deadline whenever everybody waits.
    tokio::time::pause();
    for beginning in ["", "CONNECT fal.run:443 HTTP/1.1\r\nhost:", "\u{16}\u{3}\u{1}"] {
        let mut stream = TcpStream::connect(port.address).await.expect("a connection");
        stream.write_all(beginning.as_bytes()).await.expect("sent");
        let mut rest = Vec::new();
        // Closed, or reset with bytes unread: the connection is over.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{beginning}");
    }
}
