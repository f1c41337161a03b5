//! API keys, and the CORS headers that browsers get.

use crate::support::{Answer, ENDPOINT, Server, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};

async fn with_key(server: &Server, method: Method, path: &str, authorization: Option<&str>) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "me");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    server.send(request.body(Body::from(small().to_string())).expect("a request")).await
}

#[tokio::test]
async fn without_the_key_nothing_but_files_and_health_answers() {
    let server = Server::with_key("id:secret").await;
    let id = "00000000-0000-4000-8000-000000000000";
    let paths = [
        format!("/queue/{ENDPOINT}"),
        format!("/run/{ENDPOINT}"),
        format!("/{ENDPOINT}"),
        "/api/fal/proxy".into(),
        format!("/queue/{ENDPOINT}/requests/{id}"),
        format!("/requests/{id}/status"),
        format!("//run//{ENDPOINT}/"),
        format!("/queue/{ENDPOINT}/requests/{id}/cancel"),
        "/no/such/path".into(),
        "/files/..%2f".into(),
        "/health/../queue".into(),
        "/files/a/../../run".into(),
        format!("/%71ueue/{ENDPOINT}"),
        "/health/x".into(),
    ];
    for path in &paths {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            for wrong in [None, Some("Key id:wrong"), Some("Basic id:secret"), Some("id:secret")] {
                let answer = with_key(&server, method.clone(), path, wrong).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
                assert!(answer.json()["detail"].is_string());
            }
        }
    }
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_ne!(with_key(&server, Method::GET, path, None).await.status, StatusCode::UNAUTHORIZED);
    }
    for right in ["Key id:secret", "Bearer id:secret"] {
        let answer = with_key(&server, Method::POST, &format!("/queue/{ENDPOINT}"), Some(right)).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn pages_of_any_origin_may_call() {
    let server = Server::with_key("k").await;
    let preflight = Request::builder()
        .method(Method::OPTIONS)
        .uri("/api/fal/proxy")
        .header("host", "me")
        .header("origin", "https://page.example")
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", "authorization,content-type,x-fal-target-url");
    let answer = server.send(preflight.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-headers"), "authorization,content-type,x-fal-target-url");
    assert!(answer.header("access-control-allow-methods").contains("PUT"));

    let answer = with_key(&server, Method::POST, &format!("/{ENDPOINT}"), None).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*", "an error too");
    assert!(answer.header("access-control-expose-headers").contains("x-fal-request-id"));
    assert_eq!(answer.header("x-fal-request-id").len(), 36);
}
