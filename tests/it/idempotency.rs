//! `Idempotency-Key`: what is sent again is one request, whoever sends it and however often.

use crate::keys::Keyed;
use crate::support::{Answer, ENDPOINT, Scripted, Server, eventually, id_of, messages, small, small_with};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use latentd::worker::Tick;
use serde_json::{Value, json};
use tower::ServiceExt;

fn request(path: &str, key: &str, input: &Value) -> Request<Body> {
    let request = Request::post(path).header("host", "test:1").header("idempotency-key", key);
    request.body(Body::from(input.to_string())).expect("a request")
}

async fn post(server: &Server, path: &str, key: &str, input: &Value) -> Answer {
    server.post(path, &[("idempotency-key", key)], input).await
}

/// The id that a submit with a key gets.
async fn submit(server: &Server, key: &str, input: &Value) -> String {
    id_of(&server.submit_with(&[("idempotency-key", key)], input).await).to_owned()
}

/// A call in a task of its own; aborting that is hanging up.
fn spawn_call(server: &Server, path: &str, key: &str) -> tokio::task::JoinHandle<Answer> {
    let (router, request) = (server.router.clone(), request(path, key, &small()));
    tokio::spawn(async move { Answer::of(router.oneshot(request).await.expect("an answer")).await })
}

/// Waits for a request, and claims it.
async fn claim(server: &Server) -> latentd::queue::Claim {
    eventually(async || server.try_claim("w").await).await
}

#[tokio::test]
async fn the_same_key_and_input_is_the_same_request() {
    let server = Server::start().await;
    // The seed is random, and the order of the fields does not count.
    let id = submit(&server, "k", &json!({ "prompt": "a fox", "num_images": 2 })).await;
    assert_eq!(submit(&server, "k", &json!({ "num_images": 2, "prompt": "a fox" })).await, id);
    server.generate_all().await;
    assert_eq!(submit(&server, "k", &json!({ "prompt": "a fox", "num_images": 2 })).await, id);
    let other = submit(&server, "l", &json!({ "prompt": "a fox", "num_images": 2 })).await;
    assert_ne!(other, id);
    let without = server.submit(&small()).await;
    assert_ne!(without, server.submit(&small()).await);
}

#[tokio::test]
async fn another_input_under_the_same_key_is_refused() {
    let server = Server::start().await;
    submit(&server, "k", &small()).await;
    let other = small_with("seed", 8);
    for (path, input) in [
        (format!("/queue/{ENDPOINT}"), &other),
        (format!("/queue/{ENDPOINT}/turbo"), &small()),
        (format!("/run/{ENDPOINT}"), &other),
        (format!("/{ENDPOINT}/stream"), &other),
    ] {
        let answer = post(&server, &path, "k", input).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        assert_eq!(answer.json()["detail"][0]["loc"], json!(["header", "idempotency-key"]));
    }
    for nonsense in ["", " ", "\u{e9}", &"x".repeat(256)] {
        let answer = post(&server, &format!("/queue/{ENDPOINT}"), nonsense, &small()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{nonsense:?}");
    }
}

#[tokio::test]
async fn a_hundred_at_once_make_one_request() {
    let server = Server::start().await;
    let calls: Vec<_> = (0..100).map(|_| spawn_call(&server, &format!("/queue/{ENDPOINT}"), "k")).collect();
    let mut ids = Vec::new();
    for call in calls {
        ids.push(call.await.expect("no panic").json()["request_id"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    claim(&server).await;
    assert!(server.try_claim("w").await.is_none());
}

#[tokio::test]
async fn a_key_counts_for_its_api_key_alone() {
    let keyed = Keyed::start().await;
    keyed.add("a", None).await;
    keyed.add("b", None).await;
    let submit = async |id: &str| {
        let mut request = request(&format!("/queue/{ENDPOINT}"), "k", &small());
        let key = format!("Key {id}:secret").parse().expect("a value");
        request.headers_mut().insert("authorization", key);
        keyed.server.send(request).await.json()["request_id"].clone()
    };
    let (a, b) = (submit("a").await, submit("b").await);
    assert_ne!(a, b);
    assert_eq!(submit("a").await, a);
}

#[tokio::test]
async fn a_refused_input_keeps_its_id_too() {
    let server = Server::start().await;
    let id = submit(&server, "k", &json!({})).await;
    assert_eq!(submit(&server, "k", &json!({})).await, id);
    assert_eq!(server.get(&format!("/requests/{id}")).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn run_and_stream_join_what_was_submitted() {
    let server = Server::start().await;
    let id = submit(&server, "k", &small()).await;
    let run = spawn_call(&server, &format!("/run/{ENDPOINT}"), "k");
    let stream = spawn_call(&server, &format!("/{ENDPOINT}/stream"), "k");
    let mut worker = server.worker("w", Scripted::grey()).await;
    assert_eq!(worker.tick().await.expect("a worker that goes on"), Tick::Worked);
    let (run, stream) = (run.await.expect("no panic"), stream.await.expect("no panic"));
    assert_eq!((run.header("x-fal-request-id"), stream.header("x-fal-request-id")), (&*id, &*id));
    assert_eq!(run.json(), server.get(&format!("/requests/{id}")).await.json());
    assert!(String::from_utf8_lossy(&stream.bytes).contains("\"seed\":7"));
    assert_eq!(worker.tick().await.expect("a worker that goes on"), Tick::Idle, "generated once");
}

#[tokio::test]
async fn work_goes_on_while_one_client_waits_and_stops_with_the_last() {
    for both_hang_up in [false, true] {
        let server = Server::start().await;
        let first = spawn_call(&server, &format!("/run/{ENDPOINT}"), "k");
        server.until_one_waits().await;
        // A stream has answered as soon as it waits.
        let second = request(&format!("/{ENDPOINT}/stream"), "k", &small());
        let second = server.router.clone().oneshot(second).await.expect("an answer");
        let id = second.headers()["x-fal-request-id"].to_str().expect("text").to_owned();
        first.abort();
        let _ = first.await;
        if both_hang_up {
            drop(second);
            server.until_none_waits().await;
            let status = server.status(&format!("/requests/{id}")).await;
            assert_eq!(status["error_type"], "client_disconnected");
        } else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            server.generate_all().await;
            let result = server.get(&format!("/requests/{id}")).await;
            assert_eq!(result.status, StatusCode::OK, "{result:?}");
        }
    }
}

#[tokio::test]
async fn what_was_broken_off_is_done_when_its_client_comes_again() {
    let server = Server::start().await;
    let path = format!("/run/{ENDPOINT}");
    for is_running in [false, true] {
        let key = if is_running { "running" } else { "waiting" };
        let call = spawn_call(&server, &path, key);
        let claimed = match is_running {
            true => Some(claim(&server).await),
            false => {
                server.until_one_waits().await;
                None
            }
        };
        call.abort();
        let _ = call.await;
        if let Some(claim) = &claimed {
            let stopped = async || server.queue.verdict(claim).await.ok();
            let cancelled = latentd::queue::Verdict::Cancelled;
            eventually(async || (stopped().await? == cancelled).then_some(())).await;
        } else {
            server.until_none_waits().await;
        }
        let again = spawn_call(&server, &path, key);
        server.until_one_waits().await;
        server.generate_all().await;
        assert_eq!(again.await.expect("no panic").status, StatusCode::OK, "{key}");
    }
}

#[tokio::test]
async fn a_submit_keeps_what_a_run_began() {
    let server = Server::start().await;
    let call = spawn_call(&server, &format!("/run/{ENDPOINT}"), "k");
    server.until_one_waits().await;
    let id = submit(&server, "k", &small()).await;
    call.abort();
    let _ = call.await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    server.generate_all().await;
    assert_eq!(server.get(&format!("/requests/{id}")).await.status, StatusCode::OK);
    assert!(messages(&server.status(&format!("/requests/{id}")).await).len() > 1);
}
