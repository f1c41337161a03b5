//! fal.run: the result on the line, and what happens when the line breaks.

use crate::support::{ENDPOINT, Order, Server, eventually, leashed, small};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn run_answers_with_the_output() {
    let server = Server::start().await;
    let input = small();
    for path in [format!("/run/{ENDPOINT}"), format!("/{ENDPOINT}"), format!("/{ENDPOINT}/turbo/")] {
        let answer = async {
            eventually(async || (waiting(&server).await > 0).then_some(())).await;
            server.paint_all().await;
        };
        let (answer, ()) = tokio::join!(server.call(Method::POST, &path, &input), answer);
        assert_eq!(answer.status, StatusCode::OK, "{path} {answer:?}");
        assert_eq!(answer.header("x-fal-request-id").len(), 36);
        assert_eq!(answer.json()["seed"], 7);
    }
}

#[tokio::test]
async fn a_refused_input_is_answered_at_once() {
    let server = Server::start().await;
    let answer = server.call(Method::POST, &format!("/{ENDPOINT}"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json()["detail"][0]["type"], "missing");
    assert_eq!(waiting(&server).await, 0);
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_its_request() {
    let server = Server::start().await;
    let (engine, leash) = leashed();
    let mut worker = server.worker("w", engine).await;
    let router = server.router.clone();
    let call = tokio::spawn(async move {
        let request = axum::http::Request::post(format!("/{ENDPOINT}")).header("host", "test");
        let body = axum::body::Body::from(small().to_string());
        tower::ServiceExt::oneshot(router, request.body(body).expect("a request")).await
    });
    eventually(async || (waiting(&server).await > 0).then_some(())).await;
    let work = tokio::spawn(async move { worker.tick().await });
    leash.step().await;
    call.abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    leash.order(Order::Step);
    leash.order(Order::Step);
    work.await.expect("no panic").expect("a worker that goes on");
    assert_eq!(server.files(), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_accepted_while_the_server_stops() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    server.closing.send_replace(true);
    for path in [format!("/{ENDPOINT}"), format!("/queue/{ENDPOINT}")] {
        let answer = server.call(Method::POST, &path, &small()).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
    }
    assert_eq!(server.get("/health/ready").await.json()["status"], "stopping");
    assert_eq!(server.status(&request).await["status"], json!("IN_QUEUE"));
    assert_eq!(
        server.call(Method::PUT, &format!("{request}/cancel"), &Value::Null).await.status,
        StatusCode::OK
    );
}

/// Requests ahead of one that would come now.
pub(crate) async fn waiting(server: &Server) -> u64 {
    let new = latentd::queue::NewRequest {
        endpoint: ENDPOINT.into(),
        origin: latentd::queue::Origin::Queued,
        priority: latentd::queue::Priority::Low,
        body: Value::Null,
        max_waiting: Some(0),
        terms: latentd::queue::Terms::default(),
        webhook: None,
        api_key: None,
    };
    match server.queue.submit(&new).await.expect("a database") {
        latentd::queue::Submission::Full { waiting } => waiting,
        other => panic!("{other:?} with room for none"),
    }
}
