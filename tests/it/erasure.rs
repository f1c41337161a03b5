//! What is deleted is gone: no file of the data directory holds a word or a pixel of it.

use crate::support::{ENDPOINT, Server, id_of, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::queue::Keep;
use latentd::sweep;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The files below a directory that hold these bytes.
fn holders(directory: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holders(&path, bytes));
        } else if std::fs::read(&path).expect("a file").windows(bytes.len()).any(|part| part == bytes) {
            found.push(path);
        }
    }
    found
}

fn found(server: &Server, bytes: &[u8]) -> Vec<PathBuf> {
    holders(server.directory.path(), bytes)
}

async fn erase(server: &Server, request: &str) {
    let path = format!("/v1/models/requests/{}/payloads", id_of(request));
    let erased = server.call(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(erased.status, StatusCode::OK, "{erased:?}");
}

fn secret(number: usize) -> Value {
    let mut input = small();
    // Of all lengths: in a page of the database, and beyond.
    input["prompt"] = json!(format!("secret fox {number} {}", "in the snow ".repeat(number * 37 % 700)));
    input["negative_prompt"] = json!("hidden wolves");
    input
}

async fn image_of(server: &Server, request: &str) -> Vec<u8> {
    let url = server.get(request).await.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
    server.get(url.strip_prefix("http://test:1").expect("our URL")).await.bytes.to_vec()
}

#[tokio::test]
async fn nothing_of_a_deleted_request_is_left_in_the_data_directory() {
    let server = Server::start().await;
    let headers = [("idempotency-key", "again")];
    let request = server.submit_with(&headers, &secret(1)).await;
    assert!(!found(&server, b"secret fox").is_empty(), "it waits in the database");
    server.generate_all().await;
    let image = image_of(&server, &request).await;
    let pixels = &image[image.len() / 2..];
    let found_pixels = || found(&server, pixels);
    assert_eq!(found_pixels().len(), 1);
    let wrong = server.submit(&json!({ "prompt": { "a": "secret fox" } })).await;
    erase(&server, &request).await;
    erase(&server, &wrong).await;
    for word in ["secret fox", "hidden wolves", "in the snow"] {
        assert_eq!(found(&server, word.as_bytes()), Vec::<PathBuf>::new(), "{word}");
    }
    assert_eq!(found_pixels(), Vec::<PathBuf>::new());
    assert_eq!(server.status(&request).await["logs"], json!([]));
    assert_eq!(server.status(&wrong).await["error_type"], "bad_request");
    let again = server.submit_with(&headers, &secret(2)).await;
    assert_ne!(request, again, "its idempotency key can be used again");
}

#[tokio::test]
async fn an_input_that_its_client_does_not_want_kept_is_gone_with_the_next_sweep() {
    let server = Server::start().await;
    server.submit_with(&[("x-fal-store-io", "0")], &secret(3)).await;
    server.generate_all().await;
    assert!(server.queue.truncate_wal().await.expect("a database"));
    assert_eq!(found(&server, b"hidden wolves"), Vec::<PathBuf>::new());
    assert!(
        !found(&server, b"secret fox").is_empty(),
        "the result, which has the prompt, can be fetched for an hour"
    );
}

/// Pages of the database that are filled, split and emptied keep no copy of what moved.
#[tokio::test]
async fn nothing_is_left_of_many_requests_that_are_deleted_in_any_order() {
    let server = Server::with(|api| api.max_queue = 1_000).await;
    let mut requests = Vec::new();
    for number in 0..150 {
        requests.push(server.submit(&secret(number)).await);
    }
    for request in &requests {
        server.put(&format!("{request}/cancel")).await;
    }
    for step in 0..requests.len() {
        erase(&server, &requests[step * 67 % requests.len()]).await;
    }
    assert_eq!(found(&server, b"secret fox"), Vec::<PathBuf>::new());
    assert_eq!(found(&server, b"in the snow"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn nothing_is_left_of_what_retention_deletes() {
    let server = Server::with(|api| api.max_queue = 1_000).await;
    for number in 0..60 {
        let request = server.submit(&secret(number)).await;
        server.put(&format!("{request}/cancel")).await;
    }
    let request = server.submit(&secret(7)).await;
    server.generate_all().await;
    let image = image_of(&server, &request).await;
    let upload = Request::post("/files/upload").header("host", "test:1").body(Body::from("uploaded words"));
    assert_eq!(server.send(upload.expect("a request")).await.status, StatusCode::OK);
    server.clock.advance(2 * 86_400);
    let day = Some(Duration::from_secs(86_400));
    let keep = Keep { results: day, inputs: day, uploads: day, ..Keep::default() };
    sweep::prune(&server.queue, &keep).await.expect("a database");
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
    assert!(server.queue.truncate_wal().await.expect("a database"));
    for bytes in [&b"secret fox"[..], b"in the snow", b"uploaded words", &image[image.len() / 2..]] {
        assert_eq!(found(&server, bytes), Vec::<PathBuf>::new());
    }
    let request = server.call(Method::POST, &format!("/queue/{ENDPOINT}"), &small()).await;
    assert_eq!(request.status, StatusCode::OK);
}
