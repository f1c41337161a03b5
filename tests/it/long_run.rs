//! A run that takes longer than clients wait for the head of an answer.

use crate::support::{ENDPOINT, Server, StepControl, small, stepped_engine};
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use latentd::engine::EngineError;
use latentd::worker::Worker;
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt;

/// A server whose runs begin to answer at once or never, and a worker whose engine waits for commands.
async fn start(patience: Duration) -> (Server, Worker, StepControl) {
    let server = Server::with(|api| api.run_patience = patience).await;
    let (engine, control) = stepped_engine();
    let worker = server.worker("w", engine).await;
    (server, worker, control)
}

async fn run(server: &Server) -> Response<Body> {
    let request = Request::post(format!("/run/{ENDPOINT}")).header("host", "test:1");
    let request = request.body(Body::from(small().to_string())).expect("a request");
    server.router.clone().oneshot(request).await.expect("an answer")
}

async fn next(body: &mut Body) -> String {
    let frame = body.frame().await.expect("an open body").expect("a frame");
    String::from_utf8(frame.into_data().expect("data").to_vec()).expect("UTF-8")
}

async fn rest(body: Body) -> String {
    String::from_utf8(body.collect().await.expect("a whole body").to_bytes().to_vec()).expect("UTF-8")
}

#[tokio::test]
async fn the_head_comes_in_time_and_the_result_when_it_is_there() {
    let (server, mut worker, control) = start(Duration::from_millis(20)).await;
    let response = run(&server).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    let id = response.headers()["x-fal-request-id"].to_str().expect("text").to_owned();
    let mut body = response.into_body();
    assert_eq!(next(&mut body).await, " ");
    control.take_all_steps();
    worker.tick().await.expect("a worker that goes on");
    let result: Value = serde_json::from_str(&rest(body).await).expect("JSON after white space");
    assert_eq!(result, server.get(&format!("/requests/{id}")).await.json());
}

#[tokio::test]
async fn silence_is_filled_with_white_space() {
    let (server, _worker, _control) = start(Duration::from_millis(20)).await;
    let mut body = run(&server).await.into_body();
    assert_eq!(next(&mut body).await, " ");
    let sixteen_seconds = async {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(16)).await;
        tokio::time::resume();
    };
    let (keepalive, ()) = tokio::join!(next(&mut body), sixteen_seconds);
    assert_eq!(keepalive, " ");
}

#[tokio::test]
async fn a_late_failure_is_no_json_and_an_early_one_has_its_status() {
    let (server, mut worker, control) = start(Duration::from_millis(20)).await;
    let response = run(&server).await;
    control.fail(EngineError::Numbers("not finite".into()));
    worker.tick().await.expect("a worker that goes on");
    let text = rest(response.into_body()).await;
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
    assert!(text.contains(r#""detail":"not finite""#) && text.contains("runner_server_error"), "{text}");

    let (server, mut worker, control) = start(Duration::from_secs(600)).await;
    control.fail(EngineError::Numbers("not finite".into()));
    let work = async {
        server.until_one_waits().await;
        worker.tick().await.expect("a worker that goes on");
    };
    let (response, ()) = tokio::join!(run(&server), work);
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn a_client_that_hangs_up_meanwhile_stops_its_request() {
    let (server, _worker, _control) = start(Duration::from_millis(20)).await;
    let mut body = run(&server).await.into_body();
    next(&mut body).await;
    assert_eq!(server.waiting().await, 1);
    drop(body);
    server.until_none_waits().await;
    server.generate_all().await;
    assert_eq!(server.files(), Vec::<String>::new());
}
