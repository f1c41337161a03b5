//! The API in front of a bucket: files come through the server, and what was accepted waits for the service.

use super::pattern;
use super::service::{Fault, Service};
use crate::support::{Answer, ENDPOINT, Scripted, Server, eventually, messages, small};
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use latentd::worker::Tick;
use serde_json::Value;

pub(super) async fn server(service: &Service) -> Server {
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

pub(super) async fn upload(server: &Server, bytes: axum::body::Bytes) -> Answer {
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

/// The path of a generated image, of an upload, and of one that a browser must save.
async fn files(server: &Server) -> Vec<String> {
    let request = server.submit(&small()).await;
    server.generate_all().await;
    let image = path(&server.get(&request).await.json()["images"][0]["url"]);
    let mut paths = vec![image];
    for kind in ["image/webp", "text/html"] {
        let request = Request::post("/files/upload").header("content-type", kind);
        let request = request.header("x-fal-file-name", "a name.html").body(Body::from(pattern(1000)));
        let sent = server.send(request.expect("a request")).await;
        paths.push(path(&sent.json()["access_url"]));
    }
    paths
}

/// What differs between two servers' answers about the same files.
fn same_but_for_names(headers: &HeaderMap) -> Vec<(String, String)> {
    let named = |name: &str| ["date", "etag", "x-fal-request-id"].contains(&name);
    let shown = headers.iter().filter(|(name, _)| !named(name.as_str()));
    let mut shown: Vec<_> =
        shown.map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect();
    shown.sort();
    shown
}

#[tokio::test]
async fn files_of_a_bucket_are_served_as_those_of_a_directory() {
    let service = Service::start().await;
    let (bucket, directory) = (server(&service).await, Server::start().await);
    let (of_bucket, of_directory) = (files(&bucket).await, files(&directory).await);
    for (kind, (in_bucket, in_directory)) in of_bucket.iter().zip(&of_directory).enumerate() {
        for (name, value) in [
            ("accept", "*/*"),
            ("range", "bytes=2-9"),
            ("range", "bytes=5-"),
            ("range", "bytes=-7"),
            ("range", "bytes=0-999999"),
            ("range", "bytes=999999-"),
            ("range", "bytes=1-2,4-5"),
            ("if-none-match", "\"another\""),
        ] {
            let get =
                |path: &str| Request::get(path).header(name, value).body(Body::empty()).expect("a request");
            let (ours, theirs) = (bucket.send(get(in_bucket)).await, directory.send(get(in_directory)).await);
            let context = format!("file {kind}, {name}: {value}");
            assert_eq!(ours.status, theirs.status, "{context}");
            assert_eq!(same_but_for_names(&ours.headers), same_but_for_names(&theirs.headers), "{context}");
            if ours.status.is_success() {
                assert!(ours.bytes == theirs.bytes && !ours.bytes.is_empty(), "{context}: the bytes differ");
            }
        }
    }
    let types = async |at: usize| bucket.get(&of_bucket[at]).await.header("content-type").to_owned();
    assert_eq!((types(0).await.as_str(), types(1).await.as_str()), ("image/jpeg", "image/webp"));
    let page = bucket.get(&of_bucket[2]).await;
    assert!(page.header("content-disposition").starts_with("attachment"), "{page:?}");
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
    let mut worker = server.worker("worker", Scripted::grey()).await;
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
        lines.iter().any(|line| line.contains("cannot be stored now: waiting for the bucket"))
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
