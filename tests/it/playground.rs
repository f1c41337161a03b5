//! The page at `/`: its headers, and that it is in nobody's way.

use crate::support::{Answer, Server, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::Value;

async fn ask(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "me:1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn the_page_runs_its_own_files_alone() {
    let server = Server::start().await;
    for accept in ["text/html", "application/json", "*/*"] {
        let answer = ask(&server, Method::GET, "/", &[("accept", accept)]).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (StatusCode::OK, "text/html; charset=utf-8")
        );
        assert!(answer.bytes.starts_with(b"<!doctype html>"));
    }
    let cases = [("main.js", "text/javascript; charset=utf-8"), ("base.css", "text/css; charset=utf-8")];
    for (name, content_type) in [("icon.svg", "image/svg+xml")].into_iter().chain(cases) {
        let answer = server.get(&format!("/playground/{name}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, content_type), "{name}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self'; img-src 'self' data: blob:;"), "{policy}");
        assert!(!policy.contains("unsafe"));
    }
}

#[tokio::test]
async fn a_browser_with_a_cached_file_learns_whether_it_has_changed() {
    let server = Server::start().await;
    let first = ask(&server, Method::GET, "/", &[]).await;
    assert_eq!(first.header("cache-control"), "no-cache");
    let again = ask(&server, Method::GET, "/", &[("if-none-match", first.header("etag"))]).await;
    assert_eq!((again.status, again.bytes.len()), (StatusCode::NOT_MODIFIED, 0));
    let other =
        ask(&server, Method::GET, "/playground/main.js", &[("if-none-match", first.header("etag"))]).await;
    assert_eq!(other.status, StatusCode::OK);
    let head = ask(&server, Method::HEAD, "/", &[]).await;
    assert_eq!((head.status, head.header("etag")), (StatusCode::OK, first.header("etag")));
}

#[tokio::test]
async fn the_page_needs_no_key_but_what_it_calls_does() {
    let server = Server::with_key("secret").await;
    for path in ["/", "/playground/main.js"] {
        assert_eq!(server.get(path).await.status, StatusCode::OK);
        assert_eq!(server.call(Method::POST, path, &small()).await.status, StatusCode::UNAUTHORIZED);
    }
    for path in ["/playground/", "/playground/none.js", "/playground/main.js/more"] {
        assert_eq!(server.get(path).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_reading_of_the_page_is_answered_as_without_it() {
    let server = Server::start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let answer = server.call(method, "/", &Value::Null).await;
        assert_eq!(
            (answer.status, answer.json()["detail"].as_str()),
            (StatusCode::NOT_FOUND, Some("Path / not found"))
        );
    }
    let answer = server.call(Method::POST, "/playground/main.js", &small()).await;
    let detail = answer.json()["detail"].as_str().expect("a text").to_owned();
    assert!(detail.starts_with("Application \"main.js\" not found: "), "{detail}");
    assert_eq!(server.get("/playground/none.js").await.status, StatusCode::NOT_FOUND);
    for target in ["https://rest.fal.ai/", "https://v3.fal.media/", "https://fal.run/"] {
        let answer = ask(&server, Method::GET, "/api/fal/proxy", &[("x-fal-target-url", target)]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{target}");
    }
}
