//! The status stream: one event per change, each log line once, LF only, an end.

use crate::support::{ENDPOINT, Scripted, Server, messages, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::Duration;

/// The events of a whole stream.
async fn events(server: &Server, path: &str, accept: &str) -> Vec<Value> {
    let request =
        Request::builder().method(Method::GET).uri(path).header("host", "me").header("accept", accept);
    let answer = server.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "text/event-stream"));
    assert!(path.contains(answer.header("x-fal-request-id")));
    let text = String::from_utf8(answer.bytes.to_vec()).expect("UTF-8");
    assert!(!text.contains('\r'));
    let blocks = text.split_terminator("\n\n").filter(|block| !block.starts_with(':'));
    blocks
        .map(|block| serde_json::from_str(block.strip_prefix("data: ").expect("data")).expect("JSON"))
        .collect()
}

#[tokio::test]
async fn every_line_comes_once_and_the_last_event_completes() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let mut worker = server.worker("w", Scripted::grey()).await;
    let path = format!("{request}/status/stream?logs=1");
    let work = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        worker.tick().await.expect("a worker that goes on");
    };
    let (events, ()) = tokio::join!(events(&server, &path, "application/json"), work);

    let words: Vec<&str> = events.iter().map(|event| event["status"].as_str().expect("a word")).collect();
    assert_eq!((words[0], *words.last().expect("an event")), ("IN_QUEUE", "COMPLETED"));
    assert_eq!(words.iter().filter(|word| **word == "COMPLETED").count(), 1);
    let streamed: Vec<String> = events.iter().flat_map(messages).collect();
    assert_eq!(streamed, messages(&server.status(&request).await));
    let different = events.windows(2).all(|pair| pair[0] != pair[1]);
    assert!(different, "an event is a change: {events:?}");
}

#[tokio::test]
async fn without_logs_the_list_is_empty_and_only_the_status_moves() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let path = format!("{request}/status/stream");
    let work = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.generate_all().await;
    };
    let (events, ()) = tokio::join!(events(&server, &path, "text/event-stream"), work);
    assert!(events.len() <= 3, "{events:?}");
    assert!(events.iter().all(|event| event["logs"] == json!([])));
}

#[tokio::test]
async fn a_stream_of_a_finished_request_is_one_event() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    server.put(&format!("{request}/cancel")).await;
    let events = events(&server, &format!("{request}/status/stream/?logs=1"), "*/*").await;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["status"], &events[0]["error_type"]),
        (&json!("COMPLETED"), &json!("client_cancelled"))
    );
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let id = request.rsplit('/').next().expect("an id");
    let call = Request::get(format!("/{ENDPOINT}/requests/{id}/status/stream")).header("host", "me");
    let call = call.body(Body::empty()).expect("a request");
    let response = tower::ServiceExt::oneshot(server.router.clone(), call).await.expect("an answer");
    let mut body = response.into_body();
    let first = next_text(&mut body).await;
    assert!(first.starts_with("data: {\"status\":\"IN_QUEUE\""), "{first}");
    let sixteen_seconds = async {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(16)).await;
        tokio::time::resume();
    };
    let (second, ()) = tokio::join!(next_text(&mut body), sixteen_seconds);
    assert_eq!(second, ":\n\n");
}

async fn next_text(body: &mut Body) -> String {
    let frame = body.frame().await.expect("an open stream").expect("a frame");
    String::from_utf8(frame.data_ref().expect("data").to_vec()).expect("UTF-8")
}
