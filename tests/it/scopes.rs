//! What a key's scope is good for: keys of administrators also delete what requests brought and made.

use crate::keys::Keyed;
use crate::support::{Answer, ENDPOINT, Server, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::queue::Scope;
use serde_json::{Value, json};

async fn delete(server: &Server, path: &str, key: Option<&str>) -> Answer {
    let mut request = Request::delete(path).header("host", "test:1");
    if let Some(key) = key {
        request = request.header("authorization", format!("Key {key}:secret"));
    }
    server.send(request.body(Body::empty()).expect("a request")).await
}

/// A server with a key of each scope and a generated request: its id.
async fn start() -> (Keyed, String) {
    let keyed = Keyed::start().await;
    keyed.add("user", None).await;
    keyed.add_scoped("boss", Scope::Admin).await;
    let mut input = small();
    input["prompt"] = json!("a secret fox");
    let answer = keyed.post(&format!("/queue/{ENDPOINT}"), Some("user"), &input).await;
    (keyed, answer.json()["request_id"].as_str().expect("an id").to_owned())
}

#[tokio::test]
async fn an_admin_key_deletes_input_output_and_images() {
    let (keyed, id) = start().await;
    let server = &keyed.server;
    let path = format!("/v1/models/requests/{id}/payloads");
    let early = delete(server, &path, Some("boss")).await;
    assert_eq!(early.status, StatusCode::BAD_REQUEST, "it is not over: {early:?}");
    server.generate_all().await;
    let done = delete(server, &path, Some("boss")).await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    let results = done.json()["cdn_delete_results"].clone();
    let link =
        results[0]["link"].as_str().and_then(|link| link.strip_prefix("http://test:1")).expect("our URL");
    assert_eq!(results[0]["exception"], Value::Null);
    assert_eq!(server.get(link).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.files(), Vec::<String>::new());
    let authorized = Request::get(format!("/requests/{id}")).header("authorization", "Key user:secret");
    let result = server.send(authorized.body(Body::empty()).expect("a request")).await;
    assert_eq!(result.status, StatusCode::NOT_FOUND);
    let again = delete(server, &path, Some("boss")).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, json!({ "cdn_delete_results": [] })));
    server.queue.close().await;
    assert!(!server.stored_text().await.contains("secret fox"));
}

#[tokio::test]
async fn an_api_key_does_not() {
    let (keyed, id) = start().await;
    keyed.server.generate_all().await;
    let path = format!("/v1/models/requests/{id}/payloads");
    let refused = delete(&keyed.server, &path, Some("user")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("--scope admin")));
    assert_eq!(delete(&keyed.server, &path, None).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(keyed.server.files().len(), 1);
}

#[tokio::test]
async fn who_needs_no_key_or_was_given_one_by_flag_is_an_administrator() {
    let server = Server::start().await;
    let unknown = "/v1/models/requests/00000000-0000-4000-8000-000000000000/payloads";
    assert_eq!(delete(&server, unknown, None).await.status, StatusCode::NOT_FOUND);
    let server = Server::with_key("fixed:secret").await;
    assert_eq!(delete(&server, unknown, Some("fixed")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.call(Method::GET, unknown, &Value::Null).await.status, StatusCode::UNAUTHORIZED);
    let wrong = Request::get(unknown).header("authorization", "Key fixed:secret");
    let wrong = server.send(wrong.body(Body::empty()).expect("a request")).await;
    assert_eq!((wrong.status, wrong.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "DELETE"));
}
