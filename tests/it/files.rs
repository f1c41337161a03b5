//! Finished images over HTTP.

use crate::support::{Answer, Server, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

async fn pending(server: &Server) -> String {
    let request = server.submit(&small()).await;
    server.generate_all().await;
    let url = server.get(&request).await.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
    url.strip_prefix("http://test:1").expect("our URL").to_owned()
}

async fn part(server: &Server, path: &str, range: &str) -> Answer {
    let request = Request::get(path).header("host", "me").header("range", range);
    server.send(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn a_file_comes_with_headers_that_keep_it_an_image() {
    let server = Server::start().await;
    let answer = server.get(&pending(&server).await).await;
    assert_eq!(answer.header("content-type"), "image/jpeg");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("content-security-policy"), "sandbox; default-src 'none'");
    assert_eq!(answer.header("cache-control"), "public, max-age=5184000, immutable");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn ranges_are_served() {
    let server = Server::start().await;
    let path = pending(&server).await;
    let whole = server.get(&path).await.bytes;
    let size = whole.len();
    let cases = [
        ("bytes=2-9", 2..10),
        ("bytes=5-", 5..size),
        ("bytes=-7", size - 7..size),
        ("bytes=0-999999", 0..size),
    ];
    for (range, expected) in cases {
        let answer = part(&server, &path, range).await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(answer.bytes, whole.slice(expected.clone()), "{range}");
        let shown = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(answer.header("content-range"), shown);
    }
    let beyond = part(&server, &path, "bytes=999999-").await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(beyond.header("content-range"), format!("bytes */{size}"));
    assert_eq!(part(&server, &path, "bytes=1-2,4-5").await.status, StatusCode::OK);
}

#[tokio::test]
async fn nothing_but_stored_images_is_served() {
    let server = Server::start().await;
    std::fs::write(server.directory.path().join("files/notes.txt"), "private").expect("a file");
    let names =
        ["notes.txt", "..", "%2e%2e%2fq.sqlite", "../q.sqlite", "0123456789abcdef0123456789abcdef.png", ""];
    for name in names {
        let answer = server.get(&format!("/files/{name}")).await;
        assert!(
            matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED),
            "{name} {answer:?}"
        );
    }
    let path = pending(&server).await;
    assert_eq!(server.call(Method::PUT, &path, &Value::Null).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(server.call(Method::POST, &path, &json!({})).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn bytes_are_durable_before_the_request_is_done_and_recorded_with_it() {
    let server = Server::start().await;
    let path = pending(&server).await;
    let key = latentd::storage::FileKey::parse(path.rsplit('/').next().expect("a name")).expect("a key");
    assert_eq!(server.files(), [key.as_str()]);
    let file = server.storage.get(&key, None).await.expect("a store").expect("a file");
    assert_eq!(file.size, server.get(&path).await.bytes.len() as u64);
}
