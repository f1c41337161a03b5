//! Finished requests and their logs are bounded by number and by age, and their files go by record.

use crate::support::{ENDPOINT, Server, small};
use axum::http::{Method, StatusCode};
use latentd::queue::{Keep, Pruned};
use latentd::sweep;
use serde_json::{Value, json};
use std::time::Duration;

const DAY: i64 = 86_400;

fn days(days: u64) -> Option<Duration> {
    Some(Duration::from_secs(days * 86_400))
}

/// Submits and generates; the path of the request.
async fn done(server: &Server) -> String {
    let request = server.submit(&small()).await;
    server.generate_all().await;
    request
}

async fn prune(server: &Server, keep: Keep) {
    sweep::prune(&server.queue, &keep).await.expect("a database");
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
}

async fn exists(server: &Server, request: &str) -> bool {
    server.get(&format!("{request}/status")).await.status != StatusCode::NOT_FOUND
}

#[tokio::test]
async fn the_oldest_beyond_a_number_go_with_their_images() {
    let server = Server::start().await;
    let mut requests = Vec::new();
    for _ in 0..5 {
        requests.push(done(&server).await);
    }
    let waiting = server.submit(&small()).await;
    server.clock.advance(DAY); // files stay in the first hour
    prune(&server, Keep { requests: Some(2), ..Keep::default() }).await;
    let mut left = Vec::new();
    for request in &requests {
        left.push(exists(&server, request).await);
    }
    assert_eq!(left, [false, false, false, true, true]);
    assert!(exists(&server, &waiting).await, "what has not ended is no part of the number");
    assert_eq!(server.files().len(), 2);
    assert_eq!(server.get(&requests[4]).await.status, StatusCode::OK);
    assert_eq!(server.queue.prune(&Keep::default()).await.expect("a database"), Pruned::default());
}

#[tokio::test]
async fn what_is_too_old_goes_and_its_log_goes_before() {
    let server = Server::start().await;
    let old = done(&server).await;
    server.clock.advance(20 * DAY);
    let new = done(&server).await;
    let keep = Keep { results: days(30), inputs: days(30), logs: days(7), ..Keep::default() };
    prune(&server, keep).await;
    let lines = async |request: &str| server.status(request).await["logs"].as_array().map(Vec::len);
    assert_eq!((lines(&old).await, lines(&new).await), (Some(0), Some(6)));
    assert_eq!(server.get(&old).await.status, StatusCode::OK, "the result is kept longer");
    server.clock.advance(11 * DAY);
    prune(&server, keep).await;
    assert!(!exists(&server, &old).await && exists(&server, &new).await);
    assert_eq!(server.files().len(), 1);
}

/// Many at once take several batches; an undelivered webhook keeps its request.
#[tokio::test]
async fn batches_go_on_to_the_end_and_keep_requests_with_an_undelivered_webhook() {
    let server = Server::with(|api| api.max_queue = 10_000).await;
    let wrong = json!({ "prompt": 3 });
    let with_webhook = format!("/queue/{ENDPOINT}?fal_webhook=https://receiver.example/hook");
    let kept = server.call(Method::POST, &with_webhook, &wrong).await.json();
    for _ in 0..450 {
        server.submit(&wrong).await;
    }
    server.clock.advance(DAY);
    prune(&server, Keep { results: days(1), inputs: days(1), ..Keep::default() }).await;
    let id = kept["request_id"].as_str().expect("an id");
    assert!(exists(&server, &format!("/requests/{id}")).await);
    let keep = Keep { requests: Some(0), ..Keep::default() };
    assert_eq!(server.queue.prune(&keep).await.expect("a database"), Pruned::default(), "no other is left");
}

/// A refused input is a row too.
#[tokio::test]
async fn a_full_queue_takes_no_refused_inputs_either() {
    let server = Server::with(|api| api.max_queue = 1).await;
    server.submit(&small()).await;
    let submit = format!("/queue/{ENDPOINT}");
    let wrong: Value = json!({ "prompt": 3 });
    let refused = server.call(Method::POST, &submit, &wrong).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    assert!(!refused.header("retry-after").is_empty());
    server.generate_all().await;
    let accepted = server.call(Method::POST, &submit, &wrong).await;
    assert_eq!(accepted.status, StatusCode::OK, "{accepted:?}");
    let short = server.call(Method::POST, &format!("{submit}?fal_max_queue_length=many"), &wrong).await;
    assert_eq!(short.status, StatusCode::BAD_REQUEST, "{short:?}");
}
