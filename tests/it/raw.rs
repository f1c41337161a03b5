//! Bytes that no client sends: each has one clear answer, and the server serves on.

use crate::support::{ENDPOINT, Server, small};
use crate::wire::{Reply, exchange, post, reply, serve};
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode};
use futures_util::stream;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tower::ServiceExt;

fn submit() -> String {
    format!("/queue/{ENDPOINT}")
}

/// A head whose body is up to the test.
fn head(headers: &str) -> String {
    format!("POST {} HTTP/1.1\r\nhost: me\r\nconnection: close\r\n{headers}\r\n", submit())
}

/// A submit of a good input, as proof that the server serves on.
async fn serves_on(address: SocketAddr) {
    let good = exchange(address, post(&submit(), "", &small().to_string()).as_bytes()).await;
    assert_eq!(good.status, StatusCode::OK, "{good:?}");
}

/// The input of the request that a submit made: its refusal.
async fn refusal(server: &Server, reply: &Reply) -> Value {
    let (_, rest) = reply.text.split_once(r#""request_id":""#).unwrap_or_else(|| panic!("{reply:?}"));
    server.get(&format!("/requests/{}", &rest[..36])).await.json()["detail"][0].clone()
}

#[tokio::test]
async fn a_body_in_chunks_is_a_body() {
    let server = Server::start().await;
    let address = serve(&server).await;
    let input = small().to_string();
    let (first, second) = input.split_at(7);
    let body = format!("7\r\n{first}\r\n{:x};note=1\r\n{second}\r\n0\r\ntrailer: 1\r\n\r\n", second.len());
    let answer = exchange(address, (head("transfer-encoding: chunked\r\n") + &body).as_bytes()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let id = answer.text.split(r#""request_id":""#).nth(1).expect("an id")[..36].to_owned();
    assert_eq!(server.status(&format!("/requests/{id}")).await["status"], "IN_QUEUE");
    for broken in ["zz\r\n", "7\r\n{\"prompt\r\n0\r\n\r\n", "ffffffffffffffffff\r\n"] {
        let answer = exchange(address, (head("transfer-encoding: chunked\r\n") + broken).as_bytes()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{broken:?} {answer:?}");
    }
    serves_on(address).await;
}

#[tokio::test]
async fn lengths_that_cannot_be_are_refused() {
    let server = Server::start().await;
    let address = serve(&server).await;
    for headers in [
        "content-length: many\r\n",
        "content-length: -1\r\n",
        "content-length: 99999999999999999999999\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n",
    ] {
        let answer = exchange(address, (head(headers) + "{}").as_bytes()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{headers}");
    }
    // Less than was sent: what is cut off is no JSON.
    let cut = exchange(address, (head("content-length: 9\r\n") + &small().to_string()).as_bytes()).await;
    assert_eq!(refusal_or_status(&server, &cut).await, "json_invalid");
    serves_on(address).await;
}

/// The type of the first problem, wherever the answer has it.
async fn refusal_or_status(server: &Server, reply: &Reply) -> String {
    if reply.status == StatusCode::OK {
        return refusal(server, reply).await["type"].as_str().expect("a type").to_owned();
    }
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{reply:?}");
    let (_, rest) = reply.text.split_once(r#""type":""#).expect("a type");
    rest.split('"').next().expect("a type").to_owned()
}

#[tokio::test]
async fn a_body_that_ends_before_its_time_makes_no_request() {
    let server = Server::start().await;
    let address = serve(&server).await;
    for headers in ["content-length: 1000\r\n", "transfer-encoding: chunked\r\n"] {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let start = if headers.starts_with('c') { "{\"prompt\":" } else { "a\r\n{\"prompt\":\r\n" };
        stream.write_all((head(headers) + start).as_bytes()).await.expect("an open connection");
        stream.shutdown().await.expect("an open connection");
        let answer = reply(stream).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert!(answer.text.contains("before its time"), "{answer:?}");
    }
    assert_eq!(server.waiting().await, 0);
    serves_on(address).await;
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up() {
    let server = Server::start().await;
    let drop_by_drop = || {
        stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        })
    };
    let paths = [submit(), format!("/run/{ENDPOINT}"), "/tokens/".into(), "/storage/upload/initiate".into()];
    let calls: Vec<_> = paths.into_iter().chain(["/files/upload".to_owned()]).collect();
    for path in calls {
        let request = Request::post(&path).header("host", "me");
        let request = request.body(Body::from_stream(drop_by_drop())).expect("a request");
        let call = tokio::spawn(server.router.clone().oneshot(request));
        // What the call does before it reads takes real time.
        tokio::time::sleep(Duration::from_millis(200)).await;
        tokio::time::pause();
        while !call.is_finished() {
            tokio::time::advance(Duration::from_secs(7)).await;
            std::thread::sleep(Duration::from_millis(1));
        }
        tokio::time::resume();
        let answer = call.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT, "{path}");
    }
}

#[tokio::test]
async fn a_body_in_an_encoding_is_refused_by_name() {
    let server = Server::start().await;
    let address = serve(&server).await;
    for encoding in ["gzip", "br", "deflate, gzip"] {
        for path in [submit(), format!("/run/{ENDPOINT}"), "/files/upload".into()] {
            let bytes = post(&path, &format!("content-encoding: {encoding}\r\n"), "\x1f\x08\0\0");
            let answer = exchange(address, bytes.as_bytes()).await;
            assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path} {answer:?}");
            assert!(answer.text.contains("content-encoding"), "{answer:?}");
        }
    }
    let plain = post(&submit(), "content-encoding: identity\r\n", &small().to_string());
    assert_eq!(exchange(address, plain.as_bytes()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn json_that_is_not_quite_json() {
    let server = Server::start().await;
    let deep = format!("{{\"prompt\":{}", "{\"a\":".repeat(50_000));
    let cases = [
        (r#"{"prompt":"x","guidance_scale":NaN}"#, "json_invalid"),
        (r#"{"prompt":"x","guidance_scale":Infinity}"#, "json_invalid"),
        (r#"{"prompt":"x","guidance_scale":-Infinity}"#, "json_invalid"),
        (r#"{"prompt":"x","guidance_scale":"Infinity"}"#, "finite_number"),
        (r#"{"prompt":"x","guidance_scale":1e400}"#, "json_invalid"),
        (r#"{"prompt":"x","seed":1e300}"#, "less_than_equal"),
        (r#"{"prompt":"x","seed":123456789012345678901234567890}"#, "less_than_equal"),
        (r#"{"prompt":"\ud800"}"#, "json_invalid"),
        (r#"{"prompt":"x",}"#, "json_invalid"),
        (r#"{'prompt':'x'}"#, "json_invalid"),
        (r#"{"prompt":"x"} {}"#, "json_invalid"),
        (r#""prompt""#, "model_attributes_type"),
        (deep.as_str(), "json_invalid"),
    ];
    let address = serve(&server).await;
    for (body, kind) in cases {
        let answer = exchange(address, post(&format!("/run/{ENDPOINT}"), "", body).as_bytes()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", &body[..body.len().min(50)]);
        assert!(answer.text.contains(&format!("\"type\":\"{kind}\"")), "{kind}: {}", answer.text);
    }
    serves_on(address).await;
}

#[tokio::test]
async fn of_a_field_that_is_there_twice_the_last_counts() {
    let server = Server::start().await;
    let body =
        r#"{"prompt":"first","seed":1,"prompt":"second","num_inference_steps":1,"image_size":"square"}"#;
    let answer = exchange(serve(&server).await, post(&submit(), "", body).as_bytes()).await;
    let id = answer.text.split(r#""request_id":""#).nth(1).expect("an id")[..36].to_owned();
    server.generate_all().await;
    assert_eq!(server.get(&format!("/requests/{id}")).await.json()["prompt"], "second");
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_right_one() {
    let server = Server::start().await;
    let id = server.submit(&small()).await.rsplit('/').next().expect("an id").to_owned();
    let cases = [
        (Method::DELETE, submit(), "POST"),
        (Method::PUT, format!("/run/{ENDPOINT}"), "GET, POST"),
        (Method::PATCH, format!("/{ENDPOINT}"), "GET, POST"),
        (Method::POST, format!("/requests/{id}"), "GET"),
        (Method::DELETE, format!("/requests/{id}/status"), "GET"),
        (Method::POST, format!("/requests/{id}/cancel"), "PUT"),
        (Method::GET, "/tokens/".into(), "POST"),
        (Method::GET, "/storage/upload/initiate".into(), "POST"),
        (Method::POST, "/health".into(), "GET, HEAD"),
    ];
    for (method, path, allowed) in cases {
        let answer = server.call(method.clone(), &path, &Value::Null).await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (StatusCode::METHOD_NOT_ALLOWED, allowed),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn what_is_no_http_is_turned_away() {
    let server = Server::start().await;
    let address = serve(&server).await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / SPDY/3\r\n\r\n",
        b"G\0T / HTTP/1.1\r\nhost: me\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: me\r\nconnection: close\r\n\r\n",
        b"POST /queue/x HTTP/1.1\r\nhost: me\r\nbad header\r\n\r\n",
    ] {
        let answer = exchange(address, bytes).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: me\r\n\r\n", "x".repeat(70_000));
    assert!(exchange(address, long.as_bytes()).await.status.is_client_error());
    serves_on(address).await;
}
