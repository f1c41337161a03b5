//! Who may use a server without keys: which host names lead to it, and which web pages may call. Spoken in bytes, as
//! browsers and attackers send them.

use crate::support::{ENDPOINT, Server, small};
use crate::wire::{Reply, exchange, serve};
use axum::http::StatusCode;
use latentd::keys::KeyHash;
use latentd::keys::KeyRing;
use std::net::SocketAddr;

const EVIL: &str = "origin: https://evil.example\r\nsec-fetch-site: cross-site\r\n";
const WEB_SOCKET: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A call whose headers are all given, its host too.
async fn call(address: SocketAddr, line: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    let head =
        format!("{line} HTTP/1.1\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    exchange(address, head.as_bytes()).await
}

/// What any page of the web can send to a port of this machine, in the order of the attack page.
fn attacks() -> Vec<(String, &'static str, String)> {
    let input = small().to_string();
    let hook = format!("POST /queue/{ENDPOINT}?fal_webhook=http://127.0.0.1:9/admin/delete");
    vec![
        ("GET /health".into(), "", String::new()),
        (format!("POST /run/{ENDPOINT}"), "content-type: text/plain;charset=UTF-8\r\n", input.clone()),
        (hook, "content-type: text/plain;charset=UTF-8\r\n", input.clone()),
        (format!("POST /queue/{ENDPOINT}"), "content-type: application/json\r\n", input.clone()),
        (format!("GET /run/{ENDPOINT}?prompt=x"), "", String::new()),
        ("POST /files/upload".into(), "", "bytes".into()),
        ("POST /files/upload/multipart".into(), "", String::new()),
        ("POST /storage/auth/token".into(), "", "{}".into()),
        ("POST /storage/upload/initiate".into(), "", "{}".into()),
        ("POST /tokens/".into(), "", format!(r#"{{"allowed_apps":["{ENDPOINT}"]}}"#)),
        ("POST /api/fal/proxy".into(), "x-fal-target-url: https://rest.fal.ai/tokens/\r\n", "{}".into()),
        ("GET /metrics".into(), "", String::new()),
        ("GET /openapi.json".into(), "", String::new()),
        ("GET /requests/00000000-0000-4000-8000-000000000000/status".into(), "", String::new()),
    ]
}

#[tokio::test]
async fn a_page_of_another_origin_gets_nothing() {
    let server = Server::start().await;
    let address = serve(&server).await;
    let host = format!("host: {address}\r\n");
    for (line, headers, body) in attacks() {
        let reply = call(address, &line, &format!("{host}{EVIL}{headers}"), &body).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{line}: {reply:?}");
        assert!(
            !reply.text.to_ascii_lowercase().contains("access-control-allow"),
            "{line}: a page could read {reply:?}"
        );
        assert!(
            reply.text.contains("--allow-origin") && reply.text.contains("x-fal-request-id"),
            "{reply:?}"
        );
        // A preflight is refused too, so that nothing else is sent.
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let asks = format!("{host}{EVIL}access-control-request-method: {method}\r\n");
        let preflight = call(address, &format!("OPTIONS {path}"), &asks, "").await;
        assert_eq!(preflight.status, StatusCode::FORBIDDEN, "{line}: {preflight:?}");
    }
    let socket = format!("{host}origin: https://evil.example\r\n{WEB_SOCKET}");
    let reply =
        exchange(address, format!("GET /{ENDPOINT}/realtime HTTP/1.1\r\n{socket}\r\n").as_bytes()).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{reply:?}");
    assert_eq!(server.waiting().await, 0);
    assert_eq!(server.files(), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_that_was_made_to_point_here_gets_nothing() {
    let server = Server::start().await;
    let address = serve(&server).await;
    for (line, headers, body) in attacks() {
        for name in ["evil.example", "evil.example:8080", "queue.evil.example", "localhost.evil.example"] {
            let rebound =
                format!("host: {name}\r\nsec-fetch-site: same-origin\r\norigin: http://{name}\r\n{headers}");
            let reply = call(address, &line, &rebound, &body).await;
            assert_eq!(reply.status, StatusCode::MISDIRECTED_REQUEST, "{line} {name}: {reply:?}");
            assert!(reply.text.contains("--allow-host"), "{reply:?}");
        }
    }
    let reply = call(address, "GET http://evil.example/health", "host: localhost\r\n", "").await;
    assert_eq!(reply.status, StatusCode::MISDIRECTED_REQUEST, "{reply:?}");
    for name in
        ["localhost:1", "127.0.0.1", "[::1]:1", "queue.localhost", "fal.run", "rest.alpha.fal.ai", "me"]
    {
        let reply = call(address, "GET /health/live", &format!("host: {name}\r\n"), "").await;
        assert_eq!(reply.status, StatusCode::OK, "{name}: {reply:?}");
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call() {
    let server = Server::with(|api| api.web.allow_origin("https://app.example").expect("an origin")).await;
    let address = serve(&server).await;
    let input = small().to_string();
    for origin in ["http://localhost:3000", "https://app.example", &format!("http://{address}")] {
        let said = format!("host: {address}\r\norigin: {origin}\r\n");
        let asks = format!(
            "{said}access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n"
        );
        let preflight = call(address, &format!("OPTIONS /queue/{ENDPOINT}"), &asks, "").await;
        assert_eq!(preflight.status, StatusCode::OK, "{origin}: {preflight:?}");
        let json = format!("{said}content-type: application/json\r\n");
        let reply = call(address, &format!("POST /queue/{ENDPOINT}"), &json, &input).await;
        assert_eq!(reply.status, StatusCode::OK, "{origin}: {reply:?}");
        assert!(reply.text.contains("access-control-allow-origin: *"), "{origin}: {reply:?}");
    }
    // A body that no preflight announced is not read, whoever says that he sent it.
    let plain = format!("host: {address}\r\norigin: https://app.example\r\ncontent-type: text/plain\r\n");
    let reply = call(address, &format!("POST /queue/{ENDPOINT}"), &plain, &input).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{reply:?}");
}

#[tokio::test]
async fn with_keys_pages_of_any_origin_may_call_with_one() {
    let server = Server::with(|api| api.keys = KeyRing::new(vec![KeyHash::of("id:secret")])).await;
    let address = serve(&server).await;
    let input = small().to_string();
    let said = format!("host: gpu.example\r\n{EVIL}content-type: application/json\r\n");
    let refused = call(address, &format!("POST /queue/{ENDPOINT}"), &said, &input).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused:?}");
    let keyed = format!("{said}authorization: Key id:secret\r\n");
    let reply = call(address, &format!("POST /queue/{ENDPOINT}"), &keyed, &input).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    assert!(reply.text.contains("access-control-allow-origin: *"), "{reply:?}");
}

#[tokio::test]
async fn a_request_names_one_host() {
    for server in [Server::start().await, Server::with_key("id:secret").await] {
        let address = serve(&server).await;
        for headers in ["", "host: localhost\r\nhost: localhost\r\n", "host:\r\n", "host: \u{7f}\r\n"] {
            let reply = call(address, "GET /health/live", headers, "").await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{headers:?}: {reply:?}");
        }
        let old = exchange(address, b"GET /health/live HTTP/1.0\r\n\r\n").await;
        assert!(old.text.contains("live"), "{old:?}");
    }
}

/// A proxy on this machine that adds no header looks like this machine.
#[tokio::test]
async fn metrics_need_a_key_where_there_are_keys() {
    let server = Server::with_key("id:secret").await;
    let address = serve(&server).await;
    let reply = call(address, "GET /metrics", "host: localhost\r\n", "").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{reply:?}");
    let keyed = "host: localhost\r\nauthorization: Bearer id:secret\r\n";
    assert_eq!(call(address, "GET /metrics", keyed, "").await.status, StatusCode::OK);
    let open = Server::with(|api| {
        api.keys = KeyRing::new(vec![KeyHash::of("id:secret")]);
        api.metrics_open = true;
    })
    .await;
    let reply = call(serve(&open).await, "GET /metrics", "host: gpu.example\r\n", "").await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
}
