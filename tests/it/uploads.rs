//! Files that clients send: who may, for how long, and what an upload that breaks off leaves.

use crate::support::{Server, eventually};
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode};
use futures_util::stream;
use serde_json::{Value, json};

fn request(method: Method, url: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let path = url.strip_prefix("http://test:1").unwrap_or(url);
    let request = Request::builder().method(method).uri(path).header("host", "test:1");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(body).expect("a request")
}

async fn initiate(server: &Server, headers: &[(&str, &str)]) -> (String, String) {
    let body = Body::from(json!({ "content_type": "text/html", "file_name": "a.html" }).to_string());
    let path = "/storage/upload/initiate?storage_type=fal-cdn-v3";
    let answer = server.send(request(Method::POST, path, headers, body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let url = |name: &str| answer.json()[name].as_str().expect("a URL").to_owned();
    (url("upload_url"), url("file_url"))
}

#[tokio::test]
async fn a_key_opens_the_door_and_the_url_is_the_right_to_write() {
    let server = Server::with_key("id:secret").await;
    for path in
        ["/storage/upload/initiate", "/storage/auth/token", "/files/upload", "/files/upload/multipart"]
    {
        let answer = server.call(Method::POST, path, &json!({})).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let (upload, file) = initiate(&server, &[("authorization", "Key id:secret")]).await;
    let put = server.send(request(Method::PUT, &upload, &[], Body::from("<b>x</b>"))).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    let got = server.send(request(Method::GET, &file, &[], Body::empty())).await;
    assert_eq!((got.header("content-type"), &got.bytes[..]), ("text/html", &b"<b>x</b>"[..]));
    assert!(got.header("content-security-policy").contains("sandbox"), "{got:?}");
}

#[tokio::test]
async fn a_token_opens_the_file_host_alone() {
    let server = Server::with_key("id:secret").await;
    let key = [("authorization", "Key id:secret")];
    let answer = server.send(request(Method::POST, "/storage/auth/token", &key, Body::from("{}"))).await;
    let token = format!("Bearer {}", answer.json()["token"].as_str().expect("a token"));
    let headers = [("authorization", token.as_str()), ("content-type", "text/plain")];
    let sent = server.send(request(Method::POST, "/files/upload", &headers, Body::from("x"))).await;
    assert_eq!(sent.status, StatusCode::OK, "{sent:?}");
    let other = request(Method::POST, "/storage/upload/initiate", &headers, Body::from("{}"));
    assert_eq!(server.send(other).await.status, StatusCode::UNAUTHORIZED);
    server.clock.advance(30 * 24 * 3600);
    let late = server.send(request(Method::POST, "/files/upload", &headers, Body::from("x"))).await;
    assert_eq!(late.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_file_is_gone_when_its_time_is_over() {
    let server = Server::start().await;
    let lifecycle = [("x-fal-object-lifecycle", r#"{"expiration_duration_seconds": 60}"#)];
    let (upload, file) = initiate(&server, &lifecycle).await;
    let put = server.send(request(Method::PUT, &upload, &[], Body::from("x"))).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    let get = async || server.send(request(Method::GET, &file, &[], Body::empty())).await.status;
    assert_eq!(get().await, StatusCode::OK);
    server.clock.advance(61);
    assert!(matches!(get().await, StatusCode::NOT_FOUND | StatusCode::GONE));
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_and_can_be_tried_again() {
    let server = Server::start().await;
    let (upload, file) = initiate(&server, &[]).await;
    let pieces: [Result<Bytes, std::io::Error>; 2] =
        [Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("the line is cut"))];
    let cut = request(Method::PUT, &upload, &[], Body::from_stream(stream::iter(pieces)));
    assert!(server.send(cut).await.status.is_client_error());
    // The store clears up on a thread of its own.
    eventually(async || server.files().is_empty().then_some(())).await;
    let get = async || server.send(request(Method::GET, &file, &[], Body::empty())).await;
    assert_eq!(get().await.status, StatusCode::NOT_FOUND);
    let again = server.send(request(Method::PUT, &upload, &[], Body::from("whole"))).await;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    assert_eq!(&get().await.bytes[..], b"whole");
}

/// Clients send a file again when they got no answer to the first.
#[tokio::test]
async fn the_same_file_may_be_sent_again_and_another_may_not() {
    let server = Server::start().await;
    let (upload, file) = initiate(&server, &[]).await;
    let content = vec![b'x'; 60_000];
    let put = async |bytes: &[u8]| {
        let pieces = bytes.chunks(7_000).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)));
        let body = Body::from_stream(stream::iter(pieces.collect::<Vec<_>>()));
        server.send(request(Method::PUT, &upload, &[], body)).await.status
    };
    assert_eq!(put(&content).await, StatusCode::OK);
    assert_eq!(put(&content).await, StatusCode::OK);
    let mut other = content.clone();
    other[40_000] = b'y';
    let longer = [&content[..], b"x"].concat();
    for wrong in [&b""[..], &content[1..], &other, &longer] {
        assert_eq!(put(wrong).await, StatusCode::GONE);
    }
    let got = server.send(request(Method::GET, &file, &[], Body::empty())).await;
    assert!(got.bytes[..] == content[..]);
    assert_eq!(server.files().len(), 1);
}

#[tokio::test]
async fn parts_must_all_be_there() {
    let server = Server::start().await;
    let begun = server.send(request(Method::POST, "/files/upload/multipart", &[], Body::empty())).await;
    let (file, id) = (begun.json()["access_url"].clone(), begun.json()["uploadId"].clone());
    let base = format!("{}/multipart/{}", file.as_str().expect("a URL"), id.as_str().expect("an id"));
    let mut parts = Vec::new();
    for number in [2, 1] {
        let put = request(Method::PUT, &format!("{base}/{number}"), &[], Body::from(number.to_string()));
        let put = server.send(put).await;
        assert_eq!(put.status, StatusCode::OK, "{put:?}");
        parts.push(json!({ "partNumber": number, "etag": put.header("etag") }));
    }
    let complete = async |parts: &[Value]| {
        let body = Body::from(json!({ "parts": parts }).to_string());
        server.send(request(Method::POST, &format!("{base}/complete"), &[], body)).await
    };
    let missing = json!({ "partNumber": 3, "etag": "\"x\"" });
    let refused = complete(&[parts[0].clone(), parts[1].clone(), missing]).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
    let done = complete(&parts).await;
    assert!(done.status.is_success(), "{done:?}");
    let got = server.send(request(Method::GET, file.as_str().expect("a URL"), &[], Body::empty())).await;
    assert_eq!(&got.bytes[..], b"12");
}

#[tokio::test]
async fn what_is_no_upload_is_refused_as_such() {
    let server = Server::start().await;
    for path in ["/storage/upload/x", "/storage/upload/x/1", "/files/a/multipart/x/1", "/storage/x/y"] {
        let answer = server.put(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path} {answer:?}");
    }
    let answer = server.call(Method::POST, "/storage/upload/initiate", &json!([null])).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
}

#[tokio::test]
async fn uploads_that_nobody_finishes_are_bounded() {
    let server = Server::with(|api| api.max_open_uploads = 2).await;
    let (first, _) = initiate(&server, &[]).await;
    initiate(&server, &[]).await;
    for path in ["/storage/upload/initiate", "/files/upload/multipart", "/files/upload"] {
        let refused = server.call(Method::POST, path, &json!({})).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{path} {refused:?}");
        assert!(!refused.header("retry-after").is_empty());
    }
    let put = server.send(request(Method::PUT, &first, &[], Body::from("x"))).await;
    assert_eq!(put.status, StatusCode::OK, "{put:?}");
    initiate(&server, &[]).await;
    // Tickets that ran out do not count.
    server.clock.advance(3601);
    initiate(&server, &[]).await;
}

#[tokio::test]
async fn a_type_that_is_none_is_not_kept_and_only_media_is_shown() {
    let server = Server::start().await;
    let cases = [
        ("image/png", "image/png", "inline"),
        ("image/png, text/html", "application/octet-stream", "attachment"),
        ("image/svg+xml", "image/svg+xml", "attachment"),
        ("text/html; charset=utf-8", "text/html; charset=utf-8", "attachment"),
        ("text/plain", "text/plain", "attachment"),
    ];
    for (given, kept, shown) in cases {
        let sent = request(Method::POST, "/files/upload", &[("content-type", given)], Body::from("x"));
        let sent = server.send(sent).await.json();
        let url = sent["access_url"].as_str().expect("a URL");
        let got = server.send(request(Method::GET, url, &[], Body::empty())).await;
        assert_eq!((got.header("content-type"), got.header("content-disposition")), (kept, shown), "{given}");
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert!(got.header("content-security-policy").starts_with("sandbox"));
    }
}
