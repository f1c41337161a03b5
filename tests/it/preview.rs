//! Live previews: for those who watch, while they watch, of the attempt that runs, and gone with the request.

use crate::support::{ENDPOINT, Server, StepControl, eventually, messages, small, small_with};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use latentd::queue::{Claim, Failure, FailureKind, Level, Lost, Verdict, WATCH};
use serde_json::{Value, json};

/// An open stream of events.
struct Events {
    body: Body,
    text: String,
}

impl Events {
    async fn open(server: &Server, method: Method, path: &str, input: &Value) -> Self {
        let body = if input.is_null() { Body::empty() } else { Body::from(input.to_string()) };
        let call = Request::builder().method(method).uri(path).header("host", "me").body(body);
        let call = call.expect("a request");
        let response = tower::ServiceExt::oneshot(server.router.clone(), call).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        Self { body: response.into_body(), text: String::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event =
                    event.strip_prefix("data: ").map(|json| serde_json::from_str(json).expect("JSON"));
                self.text = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue, // a comment
                }
            }
            let frame = self.body.frame().await?.expect("an open stream");
            self.text += std::str::from_utf8(frame.data_ref().expect("data")).expect("UTF-8");
        }
    }

    async fn until(&mut self, found: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next().await.expect("an open stream");
            if found(&event) {
                return event;
            }
        }
    }

    async fn rest(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// Takes a step and waits until the worker has reported it.
async fn step(server: &Server, request: &str, control: &StepControl) {
    let taken = async || {
        let lines = messages(&server.status(request).await);
        lines.iter().filter(|line| line.starts_with("step ")).count()
    };
    let before = taken().await;
    control.step().await;
    eventually(async || (taken().await > before).then_some(())).await;
}

/// How light the image is that an event carries.
fn level(event: &Value) -> u8 {
    let uri = event["preview"].as_str().expect("a preview");
    let jpeg = STANDARD.decode(uri.strip_prefix("data:image/jpeg;base64,").expect("a JPEG")).expect("base64");
    let image = image::load_from_memory_with_format(&jpeg, image::ImageFormat::Jpeg).expect("pixels");
    let image = image.into_rgb8();
    assert_eq!((image.width(), image.height()), (32, 16));
    image.as_raw()[0]
}

fn many_steps() -> Value {
    small_with("num_inference_steps", 20)
}

#[tokio::test]
async fn a_watcher_sees_the_image_become() {
    let server = Server::start().await;
    let request = server.submit(&many_steps()).await;
    let run = server.run_stepped("w").await;
    let path = format!("{request}/status/stream?logs=1&preview=1");
    let mut events = Events::open(&server, Method::GET, &path, &Value::Null).await;
    events.until(|event| event["status"] == "IN_PROGRESS").await;
    for _ in 0..6 {
        step(&server, &request, &run.control).await;
    }
    let first = level(&events.until(|event| event.get("preview").is_some()).await);
    run.finish().await;
    let rest = events.rest().await;
    let later: Vec<u8> = rest.iter().filter(|event| event.get("preview").is_some()).map(level).collect();
    assert!(later.iter().all(|level| *level > first), "newer ones replace it: {first} {later:?}");
    let last = rest.last().expect("an end");
    assert_eq!((&last["status"], last.get("preview")), (&json!("COMPLETED"), None));
    let id = last["request_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert_eq!(server.queue.preview(id, 0).await.expect("a database"), None, "it is over");
}

#[tokio::test]
async fn nothing_is_made_where_nobody_watches() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let run = server.run_stepped("w").await;
    let path = format!("{request}/status/stream?logs=1");
    let mut events = Events::open(&server, Method::GET, &path, &Value::Null).await;
    let event = events.until(|event| event["status"] == "IN_PROGRESS").await;
    let id = event["request_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    step(&server, &request, &run.control).await;
    step(&server, &request, &run.control).await;
    assert_eq!(server.queue.preview(id, 0).await.expect("a database"), None);
    run.finish().await;
    assert!(events.rest().await.iter().all(|event| event.get("preview").is_none()));
}

#[tokio::test]
async fn a_run_stream_shows_previews_and_ends_with_the_result() {
    let server = Server::start().await;
    let path = format!("/{ENDPOINT}/stream");
    let mut events = Events::open(&server, Method::POST, &path, &many_steps()).await;
    let run = server.run_stepped("w").await;
    let event = events.until(|event| event["status"] == "IN_PROGRESS").await;
    let request = format!("/{ENDPOINT}/requests/{}", event["request_id"].as_str().expect("an id"));
    for _ in 0..6 {
        step(&server, &request, &run.control).await;
    }
    run.control.take_all_steps();
    let rest = events.rest().await;
    run.done().await;
    assert!(rest.iter().any(|event| event.get("preview").is_some()), "{rest:?}");
    let result = rest.last().expect("an end");
    assert_eq!((&result["seed"], result.get("preview")), (&json!(7), None));
}

async fn watched(server: &Server, claim: &Claim) -> Verdict {
    let verdict = server.queue.verdict(claim).await.expect("a database");
    assert_eq!(server.queue.progress(claim, Level::Info, "step").await.expect("a database"), verdict);
    verdict
}

#[tokio::test]
async fn a_watcher_that_falls_silent_is_forgotten() {
    let server = Server::start().await;
    server.submit(&small()).await;
    let claim = server.claim("w").await;
    let lasts = i64::try_from(WATCH.as_secs()).expect("seconds");
    assert_eq!(watched(&server, &claim).await, Verdict::Continue { watched: false });
    for _ in 0..2 {
        server.queue.watch(claim.id).await.expect("a database");
        server.clock.advance(lasts - 1);
        assert_eq!(watched(&server, &claim).await, Verdict::Continue { watched: true });
    }
    server.clock.advance(2);
    assert_eq!(watched(&server, &claim).await, Verdict::Continue { watched: false });
}

#[tokio::test]
async fn an_image_ends_with_its_attempt() {
    let server = Server::start().await;
    server.submit(&small()).await;
    let lost = server.claim("w").await;
    let queue = &server.queue;
    queue.store_preview(&lost, b"nobody watches").await.expect("a database");
    assert_eq!(queue.preview(lost.id, 0).await.expect("a database"), None);

    queue.watch(lost.id).await.expect("a database");
    for image in [b"first", b"other"] {
        queue.store_preview(&lost, image).await.expect("a database");
        let preview = queue.preview(lost.id, 0).await.expect("a database").expect("an image");
        assert_eq!(preview.image, image);
        assert_eq!(queue.preview(lost.id, preview.number).await.expect("a database"), None, "seen");
    }
    queue.reclaim(Lost::Died("w")).await.expect("a database");
    assert_eq!(queue.preview(lost.id, 0).await.expect("a database"), None);
    queue.store_preview(&lost, b"late").await.expect("a database");
    let current = server.claim("w").await;
    queue.store_preview(&lost, b"late").await.expect("a database");
    assert_eq!(queue.preview(lost.id, 0).await.expect("a database"), None);

    queue.store_preview(&current, b"again").await.expect("a database");
    assert!(queue.preview(lost.id, 0).await.expect("a database").is_some_and(|again| again.number > 2));
    queue.fail(&current, &Failure::of(FailureKind::Engine)).await.expect("a database");
    queue.watch(current.id).await.expect("a database");
    assert_eq!(queue.preview(current.id, 0).await.expect("a database"), None);
}
