//! The four answers of cancel, and that a cancelled request leaves nothing behind.

use crate::support::{ENDPOINT, Scripted, Server, small};
use crate::wire::{exchange, serve};
use axum::http::StatusCode;
use serde_json::json;

/// A cancelled request has ended as fal's do.
async fn assert_cancelled(server: &Server, request: &str) {
    let status = server.status(request).await;
    assert_eq!(status["status"], "COMPLETED");
    assert_eq!(status["error_type"], "client_cancelled");
    assert!(status["error"].is_string());
    let result = server.get(request).await;
    assert_eq!(result.status.as_u16(), 499);
    assert_eq!(result.header("x-fal-error-type"), "client_cancelled");
    assert_eq!(result.json()["error_type"], "client_cancelled");
    assert_eq!(server.files(), Vec::<String>::new());
}

#[tokio::test]
async fn a_waiting_request_is_removed() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let answer = server.put(&format!("{request}/cancel")).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({ "status": "OK", "success": true })));
    server.generate_all().await;
    assert_cancelled(&server, &request).await;
}

/// The JavaScript client shows it as the error's message.
#[tokio::test]
async fn the_status_line_of_a_cancelled_result_has_a_reason() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    server.put(&format!("{request}/cancel")).await;
    let head = format!("GET {request} HTTP/1.1\r\nhost: inside:1\r\nconnection: close\r\n\r\n");
    let reply = exchange(serve(&server).await, head.as_bytes()).await;
    assert!(reply.text.starts_with("HTTP/1.1 499 Client Closed Request\r\n"), "{}", reply.text);
}

#[tokio::test]
async fn a_running_request_stops_at_its_next_step() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let run = server.run_stepped("w").await;
    run.step().await;
    let answer = server.put(&format!("{request}/cancel")).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(answer.json(), json!({ "status": "CANCELLATION_REQUESTED", "success": true }));
    // The engine sees the stop flag at the second step or at the third.
    run.control.allow_step();
    run.control.allow_step();
    run.done().await;
    assert_cancelled(&server, &request).await;
}

#[tokio::test]
async fn a_request_cancelled_after_its_last_step_is_cancelled_all_the_same() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let claimed = server.claim("another").await;
    server.put(&format!("{request}/cancel")).await;
    // The cancellation comes between the last look of a worker and its finish.
    let finish = server.queue.finish(&claimed, &json!({}), &[], &[]).await.expect("a database");
    assert_eq!(finish, latentd::queue::Finish::Cancelled);
    assert_cancelled(&server, &request).await;
    let mut worker = server.worker("w", Scripted::grey()).await;
    assert_eq!(worker.tick().await.expect("a worker that goes on"), latentd::worker::Tick::Idle);
}

#[tokio::test]
async fn a_request_that_is_over_or_unknown_says_so() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    server.generate_all().await;
    let before = server.get(&request).await.json();
    let answer = server.put(&format!("{request}/cancel")).await;
    assert_eq!(
        (answer.status, answer.json()),
        (StatusCode::BAD_REQUEST, json!({ "status": "ALREADY_COMPLETED" }))
    );
    assert_eq!(server.get(&request).await.json(), before);
    for id in ["00000000-0000-4000-8000-000000000000", "nonsense"] {
        let answer = server.put(&format!("/{ENDPOINT}/requests/{id}/cancel")).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::NOT_FOUND, json!({ "status": "NOT_FOUND" })));
    }
}

#[tokio::test]
async fn cancellation_at_any_moment_ends_in_one_state() {
    for moment in 0..12 {
        let server = Server::start().await;
        let request = server.submit(&small()).await;
        let (answer, ()) = tokio::join!(
            async {
                for _ in 0..moment {
                    tokio::task::yield_now().await;
                    tokio::time::sleep(std::time::Duration::from_micros(400)).await;
                }
                server.put(&format!("{request}/cancel")).await
            },
            server.generate_all()
        );
        let status = server.completed(&request).await;
        if answer.status == StatusCode::BAD_REQUEST {
            assert_eq!((status.get("error"), server.files().len()), (None, 1), "moment {moment}");
        } else {
            assert_cancelled(&server, &request).await;
        }
    }
}
