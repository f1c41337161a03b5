//! Setting the date moves no deadline and makes nothing older: neither forward nor back.

use crate::support::{ENDPOINT, Server, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::queue::Keep;
use latentd::sweep;
use serde_json::{Value, json};
use std::time::Duration;

const DAY: i64 = 86_400;

/// To next year, and to the year before.
const JUMPS: [i64; 2] = [365 * DAY, -2 * 365 * DAY];

const LIFECYCLE: &str = r#"{"expiration_duration_seconds": 3600}"#;

async fn sweep_all(server: &Server) {
    let [age, log_age] = [30, 7].map(|days| Some(Duration::from_secs(days * 86_400)));
    sweep::prune(&server.queue, &Keep { results: age, inputs: age, logs: log_age, ..Keep::default() })
        .await
        .expect("a database");
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
}

/// Submits a request whose files live for an hour, and generates; its path.
async fn done(server: &Server) -> String {
    let headers = [("x-fal-object-lifecycle-preference", LIFECYCLE)];
    let request = server.submit_with(&headers, &small()).await;
    server.generate_all().await;
    request
}

/// Begins an upload of a file that lives for an hour: where to write it, and where it is then.
async fn initiate(server: &Server) -> (String, String) {
    let body = json!({ "content_type": "text/plain", "file_name": "a.txt" }).to_string();
    let request = Request::post("/storage/upload/initiate").header("x-fal-object-lifecycle", LIFECYCLE);
    let answer = server.send(request.body(Body::from(body)).expect("a request")).await.json();
    let url = |name: &str| answer[name].as_str().expect("a URL").to_owned();
    (url("upload_url"), url("file_url"))
}

async fn write(server: &Server, ticket: &str) -> StatusCode {
    let put = Request::builder().method(Method::PUT).uri(ticket).body(Body::from("text"));
    server.send(put.expect("a request")).await.status
}

#[tokio::test]
async fn setting_the_date_deletes_nothing() {
    let server = Server::start().await;
    let (ticket, file) = initiate(&server).await;
    assert_eq!(write(&server, &ticket).await, StatusCode::OK);
    let (open_ticket, _) = initiate(&server).await;
    let request = done(&server).await;
    let image = server.get(&request).await.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
    for jump in JUMPS {
        server.clock.set_date(jump);
        sweep_all(&server).await;
        for path in [&file, &image, &request] {
            assert_eq!(server.get(path).await.status, StatusCode::OK, "{path} {jump}");
        }
        assert_eq!(server.status(&request).await["logs"].as_array().map(Vec::len), Some(6));
        assert_eq!(server.files().len(), 2);
    }
    assert_eq!(write(&server, &open_ticket).await, StatusCode::OK);
    // Their time passes as if nobody had set the date.
    server.clock.advance(3601);
    for path in [&file, &image] {
        assert_eq!(server.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    server.clock.advance(30 * DAY);
    sweep_all(&server).await;
    assert_eq!(server.get(&request).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.files(), Vec::<String>::new());
}

#[tokio::test]
async fn setting_the_date_sends_no_webhook_early_and_none_late() {
    let server = Server::start().await;
    for jump in JUMPS {
        let with_webhook = format!("/queue/{ENDPOINT}?fal_webhook=https://receiver.example/hook");
        assert_eq!(server.call(Method::POST, &with_webhook, &small()).await.status, StatusCode::OK);
        server.generate_all().await;
        let due = async || server.queue.claim_webhooks(9).await.expect("a database");
        let first = due().await.pop().expect("a webhook");
        server.clock.set_date(jump);
        assert!(due().await.is_empty(), "an attempt is on its way");
        let minute = Some(Duration::from_secs(60));
        server.queue.webhook_failed(&first, minute, "no answer").await.expect("a database");
        server.clock.set_date(jump);
        assert!(due().await.is_empty(), "not before its time");
        server.clock.advance(61);
        let second = due().await.pop().expect("a webhook");
        assert_eq!(second.attempt, 2);
        server.queue.webhook_delivered(&second).await.expect("a database");
    }
}

#[tokio::test]
async fn setting_the_date_does_not_start_a_request_early_that_was_put_off() {
    let server = Server::start().await;
    for jump in JUMPS {
        server.submit(&small()).await;
        let claim = async || server.try_claim("w").await;
        let first = claim().await.expect("a request");
        server.queue.put_off(&first, Duration::from_secs(60)).await.expect("a database");
        server.queue.give_back(&first).await.expect("a database");
        server.clock.set_date(jump);
        assert!(claim().await.is_none());
        server.clock.advance(61);
        let second = claim().await.expect("a request");
        server.queue.finish(&second, &Value::Null, &[], &[]).await.expect("a database");
    }
}

/// Another process goes on with the time that the last one noted.
#[tokio::test]
async fn a_restart_after_the_date_was_set_deletes_nothing() {
    let server = Server::start().await;
    let request = done(&server).await;
    for jump in JUMPS {
        server.clock.set_date(jump);
        let restarted = server.open_again().await;
        sweep::once(&restarted, &server.storage).await.expect("a sweep");
        let age = Some(Duration::from_secs(3600));
        let keep = Keep { results: age, inputs: age, ..Keep::default() };
        sweep::prune(&restarted, &keep).await.expect("a database");
        assert_eq!(server.files().len(), 1);
        assert_eq!(server.get(&request).await.status, StatusCode::OK);
    }
}
