//! Headers of answers that clients read beside the body.

use crate::support::{Answer, ENDPOINT, Scripted, Server, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::engine::EngineError;
use latentd::queue::Lost;
use serde_json::json;

/// What an error says of trying again, in both of fal's spellings.
fn retry(answer: &Answer) -> (&str, &str) {
    (answer.header("x-fal-needs-retry"), answer.header("x-fal-retryable"))
}

const YES: (&str, &str) = ("1", "true");
const NO: (&str, &str) = ("0", "false");

#[tokio::test]
async fn results_say_their_megapixels_and_their_worker() {
    let server = Server::start().await;
    let mut input = small();
    input["num_images"] = json!(2);
    let request = server.submit(&input).await;
    server.generate_all().await;
    let answer = server.get(&request).await;
    assert_eq!(answer.header("x-fal-billable-units"), "0.001024");
    assert_eq!(answer.header("x-fal-served-from"), "worker");
    let generating = async {
        server.until_one_waits().await;
        server.generate_all().await;
    };
    let path = format!("/run/{ENDPOINT}");
    let (run, ()) = tokio::join!(server.call(Method::POST, &path, &input), generating);
    assert_eq!(run.header("x-fal-billable-units"), "0.001024");
    assert_eq!(run.header("x-fal-served-from"), "worker");
}

#[tokio::test]
async fn refusals_cost_nothing_and_are_not_worth_repeating() {
    let server = Server::start().await;
    let refused = server.submit(&json!({})).await;
    let run = server.call(Method::POST, &format!("/run/{ENDPOINT}"), &json!({})).await;
    for answer in [run, server.get(&refused).await] {
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!((answer.header("x-fal-billable-units"), retry(&answer)), ("0", NO));
    }
    let unknown = server.call(Method::POST, &format!("/{ENDPOINT}/x"), &small()).await;
    assert_eq!((unknown.status, unknown.header("x-fal-billable-units")), (StatusCode::NOT_FOUND, "0"));
}

#[tokio::test]
async fn failures_say_whether_another_try_can_help() {
    let server = Server::start().await;
    let broken = server.submit(&small()).await;
    let engine = Scripted::new(|_| Err(EngineError::Numbers("not finite".into())));
    let mut worker = server.worker("w", engine).await;
    worker.tick().await.expect("a worker that goes on");
    let answer = server.get(&broken).await;
    assert_eq!((answer.status, retry(&answer)), (StatusCode::INTERNAL_SERVER_ERROR, NO));
    assert_eq!((answer.header("x-fal-served-from"), answer.header("x-fal-billable-units")), ("w", "0"));

    let lost = server.submit(&small()).await;
    for _ in 0..3 {
        let claim = server.claim("w").await;
        server.queue.charge(&claim).await.expect("a database");
        server.queue.reclaim(Lost::Died("w")).await.expect("a database");
    }
    let answer = server.get(&lost).await;
    assert_eq!((answer.status, retry(&answer)), (StatusCode::INTERNAL_SERVER_ERROR, YES));

    let cancelled = server.submit(&small()).await;
    server.put(&format!("{cancelled}/cancel")).await;
    let answer = server.get(&cancelled).await;
    assert_eq!((answer.status.as_u16(), retry(&answer)), (499, NO));
    assert_eq!(answer.header("x-fal-error-type"), "client_cancelled");
}

#[tokio::test]
async fn a_full_queue_and_a_longer_one_than_asked_for_are_worth_another_try() {
    let full = Server::with(|api| api.max_queue = 1).await;
    let long = Server::start().await;
    full.submit(&small()).await;
    long.submit(&small()).await;
    for path in [format!("/queue/{ENDPOINT}"), format!("/run/{ENDPOINT}"), format!("/{ENDPOINT}/stream")] {
        let answer = full.call(Method::POST, &path, &small()).await;
        assert_eq!((answer.status, retry(&answer)), (StatusCode::SERVICE_UNAVAILABLE, YES), "{path}");
        assert_eq!(answer.header("x-fal-error-type"), "runner_scheduling_failure");
        assert_eq!(answer.header("retry-after"), "5");
        let answer = long.call(Method::POST, &format!("{path}?fal_max_queue_length=0"), &small()).await;
        assert_eq!((answer.status, retry(&answer)), (StatusCode::TOO_MANY_REQUESTS, YES), "{path}");
        assert_eq!(answer.header("retry-after"), "5");
        let answer = long.call(Method::POST, &format!("{path}?fal_max_queue_length=few"), &small()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.json()["detail"].as_str().is_some_and(|text| text.contains("fal_max_queue_length")));
    }
    for server in [&full, &long] {
        assert_eq!(server.waiting().await, 1, "nothing was stored beside the first");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_read_them() {
    let server = Server::start().await;
    let request = Request::get("/health/live").header("host", "me").header("origin", "http://localhost:3000");
    let answer = server.send(request.body(Body::empty()).expect("a request")).await;
    let exposed = answer.header("access-control-expose-headers");
    for name in [
        "x-fal-request-id",
        "x-fal-billable-units",
        "x-fal-needs-retry",
        "x-fal-retryable",
        "x-fal-error-type",
        "x-fal-request-timeout-type",
        "x-fal-served-from",
        "retry-after",
    ] {
        assert!(exposed.contains(name), "{name} in {exposed}");
    }
}

#[tokio::test]
async fn a_hint_is_accepted() {
    let server = Server::start().await;
    let answer = server.post(&format!("/queue/{ENDPOINT}"), &[("x-fal-runner-hint", "h1")], &small()).await;
    assert_eq!(answer.status, StatusCode::OK);
}
