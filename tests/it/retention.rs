//! What is not kept: files past their time, and the inputs and outputs of requests that ask to be forgotten.

use crate::support::{ENDPOINT, Server, id_of, small};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use latentd::queue::Queue;
use latentd::sweep;
use serde_json::{Value, json};
use std::sync::Arc;

const LIFECYCLE: &str = "x-fal-object-lifecycle-preference";
const MINUTE: &str = r#"{"expiration_duration_seconds": 60}"#;
const FORGET: (&str, &str) = ("x-fal-store-io", "0");

/// Submits and generates; the path of the request.
async fn done(server: &Server, headers: &[(&str, &str)], input: &Value) -> String {
    let request = server.submit_with(headers, input).await;
    server.generate_all().await;
    format!("/requests/{}", id_of(&request))
}

/// The path of the image in an output.
fn image(output: &Value) -> String {
    let url = output["images"][0]["url"].as_str().expect("a URL");
    url.strip_prefix("http://test:1").expect("our URL").to_owned()
}

fn secret() -> Value {
    let mut input = small();
    (input["prompt"], input["negative_prompt"]) = (json!("a secret fox"), json!("hidden wolves"));
    input
}

/// Everything that the database holds, as text.
async fn database(server: &Server) -> String {
    server.queue.close().await;
    server.stored_text().await
}

#[tokio::test]
async fn files_end_when_their_request_asked_it() {
    let server = Server::start().await;
    let request = done(&server, &[(LIFECYCLE, MINUTE)], &small()).await;
    let file = image(&server.get(&request).await.json());
    let answer = server.get(&file).await;
    let (_, age) = answer.header("cache-control").split_once("max-age=").expect("an age");
    let age: u64 = age.split(',').next().and_then(|age| age.parse().ok()).expect("seconds");
    assert!(answer.status == StatusCode::OK && age <= 60, "{answer:?}");
    server.clock.advance(61);
    let cached = Request::get(&file).header("host", "me").header("if-none-match", answer.header("etag"));
    for request in [cached, Request::get(&file).header("host", "me")] {
        let answer = server.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(server.get(&request).await.status, StatusCode::OK, "the output stays");
    assert_eq!(server.files().len(), 1);
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
    assert_eq!(server.files(), Vec::<String>::new());
    assert_eq!(server.get(&file).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn files_of_a_run_end_too_and_others_stay() {
    let server = Server::start().await;
    let generating = async {
        server.until_one_waits().await;
        server.generate_all().await;
    };
    let (path, input) = (format!("/run/{ENDPOINT}"), small());
    let (run, ()) = tokio::join!(server.post(&path, &[(LIFECYCLE, MINUTE)], &input), generating);
    let forever = r#"{"expiration_duration_seconds": null}"#;
    let kept = done(&server, &[(LIFECYCLE, forever)], &small()).await;
    let kept = image(&server.get(&kept).await.json());
    server.clock.advance(61);
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
    assert_eq!(server.get(&image(&run.json())).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.get(&kept).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_forgotten_request_loses_its_input_at_its_end() {
    let server = Server::start().await;
    let request = done(&server, &[FORGET], &secret()).await;
    assert_eq!(
        server.get(&request).await.json()["prompt"],
        "a secret fox",
        "for an hour the result is there"
    );
    assert!(!server.status(&request).await.to_string().contains("secret"), "logs say nothing of it");
    let kept = database(&server).await;
    assert!(!kept.contains("hidden wolves") && kept.contains("a secret fox"));
}

#[tokio::test]
async fn a_forgotten_request_loses_its_output_an_hour_later() {
    let server = Server::start().await;
    let request = done(&server, &[FORGET], &secret()).await;
    let file = image(&server.get(&request).await.json());
    server.clock.advance(3500);
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
    assert_eq!(server.get(&file).await.status, StatusCode::OK);
    server.clock.advance(101);
    let gone = async |when: &str| {
        let answer = server.get(&request).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{when}");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("kept")));
        assert_eq!(server.get(&file).await.status, StatusCode::NOT_FOUND, "{when}");
        assert_eq!(server.status(&request).await["status"], "COMPLETED");
    };
    gone("before the sweep").await;
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
    gone("after the sweep").await;
    assert_eq!(server.files(), Vec::<String>::new());
    assert!(!database(&server).await.contains("secret fox"));
}

#[tokio::test]
async fn what_ended_while_the_server_was_away_is_taken_away_after_its_start() {
    let server = Server::start().await;
    done(&server, &[FORGET], &secret()).await;
    done(&server, &[(LIFECYCLE, MINUTE)], &small()).await;
    server.queue.close().await;
    let later = || jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3601);
    let path = server.directory.path().join("q.sqlite");
    let queue = Queue::open(&path, Arc::new(later)).await.expect("the database");
    sweep::once(&queue, &server.storage).await.expect("a sweep");
    queue.close().await;
    assert_eq!(server.files(), Vec::<String>::new());
    assert!(!database(&server).await.contains("secret fox"));
}

#[tokio::test]
async fn a_forgotten_request_that_fails_or_is_cancelled_leaves_nothing_either() {
    let server = Server::start().await;
    let mut wrong = secret();
    wrong["num_images"] = json!("a secret number");
    let refused = done(&server, &[FORGET], &wrong).await;
    assert_eq!(server.get(&refused).await.json()["detail"][0]["input"], "a secret number");
    let waiting = server.submit_with(&[FORGET], &secret()).await;
    assert_eq!(server.put(&format!("{waiting}/cancel")).await.status, StatusCode::OK);
    server.clock.advance(3601);
    sweep::once(&server.queue, &server.storage).await.expect("a sweep");
    assert_eq!(server.get(&refused).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let left = database(&server).await;
    assert!(!left.contains("a secret") && !left.contains("hidden wolves"));
}

#[tokio::test]
async fn the_shorter_time_counts() {
    let server = Server::start().await;
    let request = done(&server, &[FORGET, (LIFECYCLE, MINUTE)], &small()).await;
    server.clock.advance(61);
    assert_eq!(server.get(&request).await.status, StatusCode::NOT_FOUND);
    let day = r#"{"expiration_duration_seconds": 86400}"#;
    let request = done(&server, &[FORGET, (LIFECYCLE, day)], &small()).await;
    server.clock.advance(3601);
    assert_eq!(server.get(&request).await.status, StatusCode::NOT_FOUND);
}

/// Uploads a file with a lifecycle header; returns its path.
async fn upload(server: &Server, wish: &str, key: &str) -> Result<String, StatusCode> {
    let request = Request::post("/files/upload").header("content-type", "image/png");
    let request =
        request.header("x-fal-object-lifecycle", wish).header("authorization", format!("Key {key}"));
    let answer = server.send(request.body(Body::from("bytes")).expect("a request")).await;
    if answer.status != StatusCode::OK {
        return Err(answer.status);
    }
    let url = answer.json()["access_url"].as_str().expect("a URL").to_owned();
    Ok(url.strip_prefix("http://test:1").expect("a URL of the server").to_owned())
}

#[tokio::test]
async fn a_file_that_its_sender_hides_is_there_for_holders_of_a_key_alone() {
    let server = Server::with_key("id:secret").await;
    for (word, status) in
        [("hide", StatusCode::NOT_FOUND), ("forbid", StatusCode::FORBIDDEN), ("allow", StatusCode::OK)]
    {
        let wish = format!(r#"{{"initial_acl": {{"default": "{word}"}}}}"#);
        let path = upload(&server, &wish, "id:secret").await.expect("a file");
        assert_eq!(server.get(&path).await.status, status, "{word}");
        let get = |key: &str| {
            Request::get(&path).header("authorization", key).body(Body::empty()).expect("a request")
        };
        let wrong = server.send(get("Key id:other")).await;
        assert_eq!(wrong.status, status, "{word}");
        let own = server.send(get("Key id:secret")).await;
        assert_eq!((own.status, &own.bytes[..]), (StatusCode::OK, &b"bytes"[..]), "{word}");
        assert_eq!(own.header("cache-control").starts_with("public"), word == "allow");
    }
    let rules = r#"{"initial_acl": {"default": "hide", "rules": [{"user": "x", "decision": "allow"}]}}"#;
    assert_eq!(upload(&server, rules, "id:secret").await, Err(StatusCode::BAD_REQUEST));
    let open = Server::start().await;
    let hidden = r#"{"initial_acl": {"default": "hide"}}"#;
    assert_eq!(upload(&open, hidden, "").await, Err(StatusCode::BAD_REQUEST), "everybody would be its owner");
}

#[tokio::test]
async fn a_wish_that_cannot_be_read_is_refused_by_its_header() {
    let server = Server::start().await;
    for (name, value) in [
        (LIFECYCLE, "soon"),
        (LIFECYCLE, r#"{"expiration_duration_seconds": -1}"#),
        (LIFECYCLE, r#"{"initial_acl": {"default": "forbid"}}"#),
        ("x-fal-store-io", "perhaps"),
    ] {
        for path in [format!("/queue/{ENDPOINT}"), format!("/run/{ENDPOINT}")] {
            let answer = server.post(&path, &[(name, value)], &small()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {value}");
            assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains(name)));
        }
    }
}

#[tokio::test]
async fn a_request_sent_again_whose_result_is_gone_is_answered_so_before_a_stream_begins() {
    let server = Server::start().await;
    let headers = [("idempotency-key", "k"), FORGET];
    done(&server, &headers, &small()).await;
    server.clock.advance(2 * 3600);
    for path in [format!("/{ENDPOINT}"), format!("/{ENDPOINT}/stream")] {
        let answer = server.post(&path, &headers, &small()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {answer:?}");
    }
}
