//! Which call reaches what, and which URLs its answer names.

use crate::support::{Answer, ENDPOINT, Server, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

async fn post(server: &Server, host: &str, path: &str, target: Option<&str>) -> Answer {
    send(server, Method::POST, host, path, target, &small()).await
}

async fn send(
    server: &Server,
    method: Method,
    host: &str,
    path: &str,
    target: Option<&str>,
    body: &Value,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    if let Some(target) = target {
        request = request.header("x-fal-target-url", target);
    }
    server.send(request.body(Body::from(body.to_string())).expect("a request")).await
}

/// What comes before the endpoint in the URLs of a submit's answer.
async fn base(server: &Server, host: &str, path: &str, target: Option<&str>) -> String {
    let answer = post(server, host, path, target).await;
    assert_eq!(answer.status, StatusCode::OK, "{host} {path} {target:?} {answer:?}");
    let body = answer.json();
    let urls = ["response_url", "status_url", "cancel_url"]
        .map(|name| body[name].as_str().expect("a URL").to_owned());
    let base = urls[0].split(&format!("/{ENDPOINT}/requests/")).next().expect("a base").to_owned();
    assert!(urls.iter().all(|url| url.starts_with(&base)));
    base
}

#[tokio::test]
async fn urls_are_rendered_below_what_the_client_used() {
    let server = Server::start().await;
    let submit = format!("/queue/{ENDPOINT}");
    assert_eq!(base(&server, "10.0.0.5:8080", &submit, None).await, "http://10.0.0.5:8080/queue");
    assert_eq!(base(&server, "[::1]:80", &submit, None).await, "http://[::1]:80/queue");
    let bare = format!("/{ENDPOINT}");
    assert_eq!(base(&server, "queue.localhost:8080", &bare, None).await, "http://queue.localhost:8080");
    let target = format!("https://queue.fal.run/{ENDPOINT}/turbo");
    assert_eq!(base(&server, "me:1", "/api/fal/proxy", Some(&target)).await, "http://me:1/queue");
    let target = format!("http://me:1/queue/{ENDPOINT}");
    assert_eq!(base(&server, "me:1", "/api/fal/proxy", Some(&target)).await, "http://me:1/queue");
}

#[tokio::test]
async fn a_public_url_replaces_what_the_client_used() {
    let public = "https://images.example/fal/".parse().expect("a URL");
    let server = Server::with(|api| api.public_url = Some(public)).await;
    let submit = format!("/queue/{ENDPOINT}");
    assert_eq!(base(&server, "inside:1", &submit, None).await, "https://images.example/fal/queue");
    let request = server.submit(&small()).await;
    server.generate_all().await;
    let body = server.get(&request).await.json();
    let url = body["images"][0]["url"].as_str().expect("a URL");
    assert!(url.starts_with("https://images.example/fal/files/"), "{url}");
}

#[tokio::test]
async fn a_forwarded_host_is_not_believed_and_a_bad_one_refused() {
    let server = Server::start().await;
    let request = Request::post(format!("/queue/{ENDPOINT}")).header("host", "real:1");
    let request = request.header("x-forwarded-host", "evil").header("x-forwarded-proto", "https");
    let answer = server.send(request.body(Body::from(small().to_string())).expect("a request")).await;
    assert!(answer.json()["status_url"].as_str().expect("a URL").starts_with("http://real:1/queue/"));
    for host in ["a/b", "a b", "\"", "a@b", ""] {
        assert_eq!(
            post(&server, host, &format!("/queue/{ENDPOINT}"), None).await.status,
            StatusCode::BAD_REQUEST,
            "{host}"
        );
    }
}

#[tokio::test]
async fn the_proxy_header_decides_and_is_never_dialled() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let id = request.rsplit('/').next().expect("an id").to_owned();
    let proxy = "/api/fal/proxy";
    let status = format!("https://queue.fal.run/{ENDPOINT}/requests/{id}/status?logs=1");
    let answer = send(&server, Method::GET, "me", proxy, Some(&status), &Value::Null).await;
    assert_eq!((answer.status, answer.json()["status"].clone()), (StatusCode::ACCEPTED, json!("IN_QUEUE")));
    let cancel = format!("https://queue.fal.run/{ENDPOINT}/requests/{id}/cancel");
    let answer = send(&server, Method::PUT, "me", proxy, Some(&cancel), &Value::Null).await;
    assert_eq!(answer.json(), json!({ "status": "OK", "success": true }));

    let refused = [
        None,
        Some("nonsense"),
        Some("ftp://fal.run/a"),
        Some("https://example.com/a/b"),
        Some("http://169.254.169.254/latest"),
        Some("https://fal.run.example.com/a"),
        Some("http://me/api/fal/proxy"),
    ];
    for target in refused {
        let answer = post(&server, "me", proxy, target).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{target:?} {answer:?}");
        assert_eq!(answer.header("x-fal-error-type"), "bad_request");
    }
    // On any other path the header means nothing: @fal-ai/server-proxy passes it on.
    let answer = post(&server, "me", &format!("/queue/{ENDPOINT}"), Some("https://example.com/")).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_fals_words() {
    let server = Server::start().await;
    let served = "fal-ai/stable-diffusion-v35-large, fal-ai/stable-diffusion-v35-large/image-to-image, \
        fal-ai/stable-diffusion-v35-large/inpaint, fal-ai/stable-diffusion-v35-large/turbo, \
        fal-ai/stable-diffusion-v35-large/turbo/image-to-image, fal-ai/stable-diffusion-v35-large/turbo/inpaint, \
        fal-ai/stable-diffusion-v35-medium";
    let cases = [
        ("/queue/fal-ai/no-such", format!("Application \"no-such\" not found: this server has {served}")),
        ("/schnell", format!("Application \"schnell\" not found: this server has {served}")),
        (
            "/fal-ai/stable-diffusion-v35-large/upscale",
            format!("Path /upscale not found: this server has {served}"),
        ),
        ("/", "Path / not found".to_owned()),
    ];
    for (path, detail) in cases {
        let answer = post(&server, "me", path, None).await;
        let body = json!({ "detail": detail });
        assert_eq!((answer.status, answer.json()), (StatusCode::NOT_FOUND, body), "{path}");
        assert_eq!(answer.header("x-fal-request-id").len(), 36);
    }
    for tail in ["", "/status", "/status/stream"] {
        let path = format!("/{ENDPOINT}/requests/00000000-0000-4000-8000-000000000000{tail}");
        let answer = server.get(&path).await;
        assert_eq!(
            (answer.status, answer.json()["status"].clone()),
            (StatusCode::NOT_FOUND, json!("NOT_FOUND"))
        );
    }
    let answer = server.get(&format!("/queue/{ENDPOINT}")).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
}
