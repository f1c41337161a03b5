//! The API in front of a bucket: files come through the server, and what was accepted waits for the service.

use super::pattern;
use super::service::{Fault, Service};
use crate::support::{Answer, ENDPOINT, GreyEngine, Server, eventually, messages, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::worker::Tick;
use serde_json::Value;

async fn server(service: &Service) -> Server {
    let storage = service.storage("files");
    let bucket = storage.clone();
    let mut server = Server::with(|api| {
        api.storage = bucket;
        api.max_upload = 64 << 20;
    })
    .await;
    server.storage = storage;
    server
}

async fn upload(server: &Server, bytes: axum::body::Bytes) -> Answer {
    let request = Request::post("/files/upload").header("content-type", "image/png");
    server.send(request.body(Body::from(bytes)).expect("a request")).await
}

fn path(url: &Value) -> String {
    let url = url.as_str().expect("a URL");
    url.strip_prefix("http://test:1").expect("a URL of this server").to_owned()
}

fn assert_retryable(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    assert!(!String::from_utf8_lossy(&answer.bytes).contains("SlowDown"), "{answer:?}");
}

#[tokio::test]
async fn a_file_goes_through_the_server_in_both_directions() {
    let service = Service::start().await;
    let server = server(&service).await;
    let bytes = pattern(20_000_000);
    let sent = upload(&server, bytes.clone()).await;
    assert_eq!(sent.status, StatusCode::OK, "{sent:?}");
    let file = path(&sent.json()["access_url"]);
    service.plan(Method::GET, Fault::CutAnswer(9_000_000));
    let got = server.get(&file).await;
    assert_eq!((got.status, got.header("content-length")), (StatusCode::OK, "20000000"));
    assert!(got.bytes == bytes, "the bytes differ");
    let range = Request::get(&file).header("range", "bytes=10000000-10000099").body(Body::empty());
    service.plan(Method::GET, Fault::CutAnswer(50));
    let got = server.send(range.expect("a request")).await;
    assert_eq!(got.status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(got.header("content-range"), "bytes 10000000-10000099/20000000");
    assert_eq!(got.bytes, bytes.slice(10_000_000..10_000_100));
}

#[tokio::test]
async fn while_the_service_is_away_calls_are_refused_for_now_and_health_says_so() {
    let service = Service::start().await;
    let server = server(&service).await;
    let sent = upload(&server, pattern(1000)).await;
    let file = path(&sent.json()["access_url"]);
    service.set_away(true);
    assert_retryable(&upload(&server, pattern(1000)).await);
    assert_retryable(&server.get(&file).await);
    let status = async || server.get("/health/ready").await.json()["status"].clone();
    eventually(async || (status().await == "storage unavailable").then_some(())).await;
    assert_eq!(server.get("/health/live").await.status, StatusCode::OK);
    service.set_away(false);
    assert_eq!(server.get(&file).await.bytes, pattern(1000));
    assert_eq!(upload(&server, pattern(1000)).await.status, StatusCode::OK);
    eventually(async || (status().await == "no worker").then_some(())).await;
}

/// Works on what waits while the service is away, until it was asked in vain; then the service is back.
async fn work_through_an_outage(service: &Service, server: &Server, was_asked: impl AsyncFn() -> bool) {
    service.set_away(true);
    let mut worker = server.worker("worker", GreyEngine).await;
    let work = tokio::spawn(async move { while worker.tick().await.expect("a worker") == Tick::Worked {} });
    eventually(async || was_asked().await.then_some(())).await;
    service.set_away(false);
    work.await.expect("no panic");
}

async fn assert_completed(server: &Server, request: &str) {
    let status = server.status(request).await;
    assert_eq!(status["status"], "COMPLETED", "{status}");
    let result = server.get(request).await.json();
    let image = server.get(&path(&result["images"][0]["url"])).await;
    assert_eq!(image.status, StatusCode::OK, "{result}");
    assert!(image.bytes.len() > 100, "{image:?}");
}

#[tokio::test]
async fn a_generated_image_waits_for_the_service() {
    let service = Service::start().await;
    let server = server(&service).await;
    let request = server.submit(&small()).await;
    work_through_an_outage(&service, &server, async || {
        let lines = messages(&server.status(&request).await);
        lines.iter().any(|line| line.contains("cannot be stored now"))
    })
    .await;
    assert_completed(&server, &request).await;
}

#[tokio::test]
async fn a_request_waits_for_the_image_that_it_begins_from() {
    let service = Service::start().await;
    let server = server(&service).await;
    let sent = upload(&server, png().into()).await;
    let mut input = small();
    input["image_url"] = sent.json()["access_url"].clone();
    let answer = server.call(Method::POST, &format!("/queue/{ENDPOINT}/image-to-image"), &input).await;
    let id = answer.json()["request_id"].as_str().expect("an id").to_owned();
    service.seen();
    work_through_an_outage(&service, &server, async || {
        service.seen().iter().any(|seen| seen.method == Method::GET)
    })
    .await;
    assert_completed(&server, &format!("/queue/{ENDPOINT}/requests/{id}")).await;
}

fn png() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(64, 64, image::Rgb([200, 10, 10]));
    image.write_to(&mut bytes, image::ImageFormat::Png).expect("memory");
    bytes.into_inner()
}
