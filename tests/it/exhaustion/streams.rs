//! Clients of HTTP/2 that open many streams and take nothing of the answers, or send bodies in the smallest pieces.

use crate::attack::{Attacked, many_files};
use crate::support::ENDPOINT;
use axum::http::Request;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::task::JoinHandle;

/// Connections of one address, about as many as it may hold.
const CONNECTIONS: usize = 2000;

async fn connect(program: &Attacked, window: u32) -> Option<(SendRequest<Bytes>, JoinHandle<()>)> {
    let stream = program.connect("127.0.0.2", None).await.ok()?;
    let (sender, connection) = Builder::new().initial_window_size(window).handshake(stream).await.ok()?;
    Some((sender, tokio::spawn(async move { drop(connection.await) })))
}

/// Opens connections whose streams take one byte of an answer each, and lets them go.
async fn attack(program: &Attacked) {
    let mut held = Vec::new();
    for path in ["/docs/swagger-ui-bundle.js", "/docs"] {
        for _ in 0..CONNECTIONS / 2 {
            let Some((sender, connection)) = connect(program, 1).await else { continue };
            let mut answers = Vec::new();
            for _ in 0..32 {
                let request = Request::get(format!("http://{}{path}", program.address));
                let request = request.body(()).expect("a request");
                // A server that has closed it already is not what is looked at.
                let Ok(mut ready) = sender.clone().ready().await else { break };
                let Ok((answer, _)) = ready.send_request(request, true) else { break };
                answers.push(answer);
            }
            held.push((sender, answers, connection));
        }
        assert!(program.is_live("127.0.0.1").await.is_some(), "others are served");
    }
    for (sender, answers, connection) in held {
        drop((sender, answers));
        connection.abort();
    }
}

/// What is left of thousands of small pieces is not all returned to the system, but it is used again: the second time
/// takes no more than the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_take_no_more_than_connections_do() {
    many_files();
    let program = Attacked::start(&["--workers", "0"], None);
    let baseline = program.memory().baseline("2,000 connections of 32 streams that take one byte of a page");
    attack(&program).await;
    baseline.assert_bounded();
    let again = program.memory().baseline("the same once more");
    attack(&program).await;
    baseline.assert_bounded();
    again.returns().await;
}

/// Uploads wait for each other; a body in frames of one byte must not take many times its size meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_the_smallest_frames_takes_little() {
    many_files();
    let program = Attacked::start(&["--workers", "0"], None);
    let baseline = program.memory().baseline("200 bodies in frames of one byte");
    let mut held = Vec::new();
    for _ in 0..200 {
        let Some((sender, connection)) = connect(&program, 65_535).await else { continue };
        let mut sender = sender.ready().await.expect("a connection");
        let uri = format!("http://{}/queue/{ENDPOINT}/image-to-image", program.address);
        let request = Request::post(uri).header("content-length", "15000000").body(()).expect("a request");
        let (answer, mut body) = sender.send_request(request, false).expect("a stream");
        for _ in 0..20_000 {
            if body.send_data(Bytes::from_static(b" "), false).is_err() {
                break;
            }
        }
        held.push((sender, answer, body, connection));
    }
    assert!(program.is_live("127.0.0.1").await.is_some(), "others are served");
    baseline.assert_bounded();
    for (sender, answer, body, connection) in held {
        drop((sender, answer, body));
        connection.abort();
    }
    baseline.returns().await;
}
