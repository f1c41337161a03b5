//! Calls of clients, and claims of workers that tests play.

use super::{Answer, ENDPOINT, Server, eventually, every_model};
use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode};
use latentd::queue::{Claim, NewRequest, Origin, Priority, RequestOptions, Submission};
use serde_json::Value;
use tower::ServiceExt;

/// The id of a request, by its path.
pub(crate) fn id_of(request: &str) -> &str {
    request.rsplit('/').next().expect("an id")
}

impl Server {
    /// A call to `http://test:1`.
    pub(crate) async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(Request::builder().method(method).uri(path).body(body).expect("a request")).await
    }

    /// Any call; one that names no host goes to `http://test:1`.
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        request.headers_mut().entry("host").or_insert(HeaderValue::from_static("test:1"));
        Answer::of(self.router.clone().oneshot(request).await.expect("the router always answers")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &Value::Null).await
    }

    pub(crate) async fn put(&self, path: &str) -> Answer {
        self.call(Method::PUT, path, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let request =
            headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, *value));
        self.send(request.body(Body::from(body.to_string())).expect("a request")).await
    }

    /// Submits to the queue; returns the request's path below the server.
    pub(crate) async fn submit(&self, input: &Value) -> String {
        self.submit_with(&[], input).await
    }

    /// The same with headers.
    pub(crate) async fn submit_with(&self, headers: &[(&str, &str)], input: &Value) -> String {
        accepted(&self.post(&format!("/queue/{ENDPOINT}"), headers, input).await)
    }

    /// The same to another endpoint.
    pub(crate) async fn submit_to(&self, endpoint: &str, input: &Value) -> String {
        accepted(&self.post(&format!("/queue/{endpoint}"), &[], input).await)
    }

    /// The whole status, log lines included.
    pub(crate) async fn status(&self, request: &str) -> Value {
        self.get(&format!("{request}/status?logs=1")).await.json()
    }

    /// `IN_QUEUE`, `IN_PROGRESS` or `COMPLETED`.
    pub(crate) async fn state(&self, request: &str) -> String {
        self.status(request).await["status"].as_str().expect("a word").to_owned()
    }

    /// Waits until a request is over; returns its whole status.
    pub(crate) async fn completed(&self, request: &str) -> Value {
        eventually(async || {
            let status = self.status(request).await;
            (status["status"] == "COMPLETED").then_some(status)
        })
        .await
    }

    /// How many requests wait.
    pub(crate) async fn waiting(&self) -> u64 {
        let new = NewRequest {
            endpoint: ENDPOINT.into(),
            origin: Origin::Queued,
            priority: Priority::Low,
            body: Value::Null,
            model: None,
            max_waiting: Some(0),
            options: RequestOptions::default(),
            webhook: None,
            api_key: None,
            client: None,
            traceparent: None,
            idempotency: None,
        };
        match self.queue.submit(&new).await.expect("a database") {
            Submission::Full { waiting } => waiting,
            other => panic!("{other:?} in a queue that may hold none"),
        }
    }

    /// Waits until a request waits.
    pub(crate) async fn until_one_waits(&self) {
        eventually(async || (self.waiting().await > 0).then_some(())).await;
    }

    /// Waits until no request waits.
    pub(crate) async fn until_none_waits(&self) {
        eventually(async || (self.waiting().await == 0).then_some(())).await;
    }

    /// Claims the next request; `None` where none waits.
    pub(crate) async fn try_claim(&self, worker: &str) -> Option<Claim> {
        self.queue.claim(worker, &every_model()).await.expect("a database")
    }

    /// Claims the next request.
    pub(crate) async fn claim(&self, worker: &str) -> Claim {
        self.try_claim(worker).await.expect("a request that waits")
    }
}

/// The path of a request that was accepted.
fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let body = answer.json();
    format!("/queue/{ENDPOINT}/requests/{}", body["request_id"].as_str().expect("an id"))
}
