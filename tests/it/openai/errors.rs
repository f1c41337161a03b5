//! Errors in OpenAI's form: their status, parameter and code, and what clients are told of trying again.

use super::{EDITS, GENERATIONS, answered, post, refusal, small, small_form};
use crate::isolation;
use crate::keys::Keyed;
use crate::support::{Scripted, Server};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::engine::EngineError;
use serde_json::{Value, json};

#[tokio::test]
async fn an_input_is_refused_by_its_parameter() {
    let server = Server::start().await;
    for (change, param, code) in [
        (json!({ "prompt": null }), "prompt", "missing_required_parameter"),
        (json!({ "prompt": 5 }), "prompt", "invalid_type"),
        (json!({ "n": 0 }), "n", "invalid_value"),
        (json!({ "n": 5 }), "n", "invalid_value"),
        (json!({ "n": "many" }), "n", "invalid_value"),
        (json!({ "quality": "best" }), "quality", "invalid_value"),
        (json!({ "style": "wild" }), "style", "invalid_value"),
        (json!({ "background": "transparent" }), "background", "invalid_value"),
        (json!({ "moderation": "none" }), "moderation", "invalid_value"),
        (json!({ "output_format": "gif" }), "output_format", "invalid_value"),
        (
            json!({ "output_compression": 101, "output_format": "webp" }),
            "output_compression",
            "invalid_value",
        ),
        (json!({ "output_compression": 50 }), "output_compression", "invalid_value"),
        (json!({ "response_format": "file" }), "response_format", "invalid_value"),
        (json!({ "stream": true, "response_format": "url" }), "response_format", "invalid_value"),
        (json!({ "partial_images": 1 }), "partial_images", "invalid_value"),
        (json!({ "partial_images": 4, "stream": true }), "partial_images", "invalid_value"),
        (json!({ "seed": "x" }), "seed", "invalid_value"),
        (json!({ "num_inference_steps": 51 }), "num_inference_steps", "invalid_value"),
        (json!({ "guidance_scale": 21 }), "guidance_scale", "invalid_value"),
        (json!({ "model": 5 }), "model", "invalid_type"),
        (json!({ "frame_count": 5 }), "frame_count", "unsupported_parameter"),
        (json!({ "svg": {} }), "svg", "unsupported_parameter"),
        (json!({ "strength": 0.5 }), "strength", "unknown_parameter"),
        (json!({ "image": "x" }), "image", "unknown_parameter"),
        (json!({ "cfg_scale": 5 }), "cfg_scale", "unknown_parameter"),
    ] {
        let answer = server.call(Method::POST, GENERATIONS, &small(change.clone())).await;
        assert_eq!(refusal(&answer), (400, json!(param), json!(code)), "{change} {answer:?}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
    let answer = server.call(Method::POST, GENERATIONS, &small(json!({ "model": "dall-e-3" }))).await;
    assert_eq!(refusal(&answer), (404, json!("model"), json!("model_not_found")));
    for body in ["{", "[]", "\"text\""] {
        let request = Request::post(GENERATIONS).body(Body::from(body)).expect("a request");
        let (status, param, _) = refusal(&server.send(request).await);
        assert_eq!((status, param), (400, Value::Null), "{body}");
    }
    assert_eq!(server.waiting().await, 0);
}

#[tokio::test]
async fn a_path_or_a_method_that_is_not_there_is_refused_in_openais_form() {
    let server = Server::start().await;
    for path in ["/v1/chat/completions", "/v1/images/variations", "/v1/audio/speech"] {
        let answer = server.call(Method::POST, path, &small(json!({}))).await;
        assert_eq!(refusal(&answer).0, 404, "{path}");
    }
    let answer = server.get(GENERATIONS).await;
    assert_eq!((refusal(&answer).0, answer.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_key_is_needed_and_sent_as_openais_clients_do() {
    let server = Server::with_key("id:secret").await;
    for authorization in ["", "Bearer id:wrong", "Bearer "] {
        for request in [post(GENERATIONS, &small(json!({}))), small_form(&[], b"x")] {
            let (mut parts, body) = request.into_parts();
            parts.headers.insert("authorization", authorization.parse().expect("a value"));
            let answer = server.send(Request::from_parts(parts, body)).await;
            assert_eq!(refusal(&answer), (401, Value::Null, json!("invalid_api_key")));
        }
    }
    assert_eq!(refusal(&server.get("/v1/models").await).0, 401);
    assert_eq!(refusal(&server.get("/v1/models/mini").await).0, 401);
    let mut request = post(GENERATIONS, &small(json!({})));
    request.headers_mut().insert("authorization", "Bearer id:secret".parse().expect("a value"));
    assert_eq!(answered(&server, request, Scripted::grey()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_key_runs_no_more_than_it_may_and_sees_its_own_requests_alone() {
    let keyed = Keyed::start().await;
    keyed.add("a", Some(1)).await;
    let router = keyed.server.router.clone();
    let first = tokio::spawn(async move {
        let mut request = post(GENERATIONS, &small(json!({})));
        request.headers_mut().insert("host", "test:1".parse().expect("a host"));
        request.headers_mut().insert("authorization", "Bearer a:secret".parse().expect("a value"));
        tower::ServiceExt::oneshot(router, request).await
    });
    keyed.server.until_one_waits().await;
    let busy = keyed.post(GENERATIONS, Some("a"), &small(json!({}))).await;
    assert_eq!(refusal(&busy), (429, Value::Null, json!("rate_limit_exceeded")));
    assert_eq!((busy.header("retry-after"), &busy.json()["error"]["type"]), ("5", &json!("requests")));
    first.abort();

    let isolated = isolation::start(true).await;
    let mut request = post(GENERATIONS, &small(json!({})));
    request.headers_mut().insert("authorization", "Bearer a:secret".parse().expect("a value"));
    let answer = answered(&isolated.server, request, Scripted::grey()).await;
    let path = format!("/requests/{}", answer.header("x-request-id"));
    for (key, status) in [("a", StatusCode::OK), ("b", StatusCode::NOT_FOUND)] {
        assert_eq!(isolation::ask(&isolated.server, "GET", &path, key).await.status, status, "{key}");
    }
}

#[tokio::test]
async fn a_server_that_takes_nothing_now_says_when_to_try_again() {
    let full = Server::with(|api| api.max_queue = 0).await;
    let stopping = Server::start().await;
    stopping.closing.send_replace(true);
    for (server, code) in [(full, "queue_full"), (stopping, "stopping")] {
        for request in [post(GENERATIONS, &small(json!({}))), small_form(&[], b"x")] {
            let answer = server.send(request).await;
            assert_eq!(refusal(&answer), (503, Value::Null, json!(code)));
            assert_eq!(
                (answer.header("retry-after"), &answer.json()["error"]["type"]),
                ("5", &json!("server_error"))
            );
        }
    }
}

#[tokio::test]
async fn a_failed_request_says_whether_to_try_again() {
    let server = Server::start().await;
    let failing = |error: fn(String) -> EngineError| Scripted::new(move |_| Err(error("no".into())));
    for (error, status, code) in [
        (EngineError::Numbers as fn(String) -> EngineError, 500, Value::Null),
        (EngineError::OutOfMemory, 500, json!("out_of_memory")),
        (EngineError::Request, 400, Value::Null),
    ] {
        let answer = answered(&server, post(GENERATIONS, &small(json!({}))), failing(error)).await;
        assert_eq!(refusal(&answer), (status, Value::Null, code), "{answer:?}");
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    let mut late = post(GENERATIONS, &small(json!({})));
    late.headers_mut().insert("x-fal-request-start-timeout", "1".parse().expect("seconds"));
    let expire = async {
        server.until_one_waits().await;
        server.clock.advance(2);
        server.queue.expire_late().await.expect("a database");
    };
    let answer = tokio::join!(server.send(late), expire).0;
    assert_eq!((refusal(&answer).0, answer.header("x-should-retry")), (504, "true"));
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_in_openais_form() {
    let server = Server::start().await;
    for path in [GENERATIONS, EDITS] {
        let answer = server.post(path, &[("origin", "https://evil.example")], &small(json!({}))).await;
        assert_eq!(refusal(&answer).0, 403, "{path}");
    }
}
