//! HTTP/2 on the plain port, for clients that speak nothing else: the same calls, and the same limits as for as many
//! connections of HTTP/1.

use crate::support::{ENDPOINT, Server, small};
use crate::wire::serve;
use axum::http::{Method, Request, StatusCode, Version};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A page of more than a megabyte.
const PAGE: &str = "/docs/swagger-ui-bundle.js";

/// A connection, and the task that keeps it going and ends with it.
async fn connect(
    address: SocketAddr,
    builder: &Builder,
) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

fn request(address: SocketAddr, method: Method, path: &str) -> Request<()> {
    let uri = format!("http://{address}{path}");
    Request::builder().version(Version::HTTP_2).method(method).uri(uri).body(()).expect("a request")
}

#[tokio::test]
async fn a_client_that_knows_nothing_else_is_served() {
    let server = Server::start().await;
    let address = serve(&server).await;
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let mut call = async |method: Method, path: &str, body: String| {
        let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        let request = request.body(Full::<Bytes>::from(body)).expect("a request");
        let (parts, body) = sender.send_request(request).await.expect("an answer").into_parts();
        (parts, body.collect().await.expect("a body").to_bytes())
    };
    let (_, body) = call(Method::POST, &format!("/queue/{ENDPOINT}"), small().to_string()).await;
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let status_url = body["status_url"].as_str().expect("a URL");
    let path =
        status_url.strip_prefix(&format!("http://{address}")).expect("a URL that the client can follow");
    let (parts, body) = call(Method::GET, path, String::new()).await;
    assert_eq!((parts.status, parts.version), (StatusCode::ACCEPTED, Version::HTTP_2), "{body:?}");
    let (parts, page) = call(Method::GET, PAGE, String::new()).await;
    assert_eq!(parts.headers["content-length"], page.len().to_string());
    assert!(page.len() > 1_000_000);
    let (head, nothing) = call(Method::HEAD, PAGE, String::new()).await;
    assert_eq!(
        (head.status, &head.headers["content-length"]),
        (StatusCode::OK, &parts.headers["content-length"])
    );
    assert_eq!(nothing.len(), 0);
}

/// A large page is sent in pieces, each only when its client takes it.
#[tokio::test]
async fn calls_share_a_connection_and_none_waits_for_another() {
    let server = Server::start().await;
    let address = serve(&server).await;
    // What all of them together may be sent is the client's business.
    let (mut sender, _connection) =
        connect(address, Builder::new().initial_connection_window_size(4 << 20)).await;
    let mut unread = Vec::new();
    for _ in 0..31 {
        let (answer, _) = sender.send_request(request(address, Method::GET, PAGE), true).expect("a stream");
        unread.push(answer.await.expect("an answer").into_body());
    }
    assert_eq!(sender.current_max_send_streams(), 32, "as the server says");
    let (answer, _) =
        sender.send_request(request(address, Method::GET, "/health/live"), true).expect("a stream");
    let mut body = answer.await.expect("an answer").into_body();
    assert!(body.data().await.expect("data").expect("bytes").starts_with(b"{"));
}

/// Runs a connection to its end, which must come about so many seconds from now.
async fn ends_within(connection: JoinHandle<Result<(), h2::Error>>, seconds: std::ops::Range<u64>) {
    let begun = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(600), connection).await;
    assert!(ended.is_ok(), "the connection is still there");
    let passed = begun.elapsed();
    assert!(seconds.contains(&passed.as_secs()), "{passed:?}");
}

#[tokio::test]
async fn who_takes_nothing_of_one_answer_loses_the_connection() {
    let server = Server::start().await;
    let address = serve(&server).await;
    tokio::time::pause();
    for window in [0, 1] {
        let (mut sender, connection) = connect(address, Builder::new().initial_window_size(window)).await;
        let asked = sender.send_request(request(address, Method::GET, PAGE), true).expect("a stream");
        // Others go on meanwhile, and the connection is not quiet.
        let go_on = tokio::spawn(async move {
            while let Ok(mut ready) = sender.clone().ready().await {
                let Ok((answer, _)) = ready.send_request(request(address, Method::HEAD, PAGE), true) else {
                    return;
                };
                let _ = answer.await;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        ends_within(connection, 29..35).await;
        go_on.await.expect("no panic");
        drop(asked);
    }
}

#[tokio::test]
async fn a_connection_without_calls_ends() {
    let server = Server::start().await;
    let address = serve(&server).await;
    tokio::time::pause();
    let (sender, connection) = connect(address, &Builder::new()).await;
    ends_within(connection, 29..35).await;
    drop(sender);
    // Nor does one wait for ever for its first word.
    let begun = Instant::now();
    let mut silent = TcpStream::connect(address).await.expect("a connection");
    let ended = tokio::time::timeout(Duration::from_secs(600), silent.read(&mut [0])).await;
    assert!(ended.is_ok() && begun.elapsed() < Duration::from_secs(65), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_asks_and_gives_up_again_and_again_loses_the_connection() {
    let server = Server::start().await;
    let address = serve(&server).await;
    let (mut sender, connection) = connect(address, Builder::new().initial_window_size(0)).await;
    let mut given_up = 0;
    while !connection.is_finished() {
        let Ok(ready) = sender.ready().await else { break };
        sender = ready;
        let Ok((answer, _)) = sender.send_request(request(address, Method::GET, PAGE), true) else { break };
        let _ = answer.await; // its body is dropped, which resets the stream
        given_up += 1;
        assert!(given_up < 1000, "nobody minds");
    }
    assert!(given_up > 90, "{given_up}");
    let (mut sender, _connection) = connect(address, &Builder::new()).await;
    let (answer, _) =
        sender.send_request(request(address, Method::GET, "/health/live"), true).expect("a stream");
    assert_eq!(answer.await.expect("an answer").status(), StatusCode::OK, "others are served");
}
