//! Streams: partial images, complete ones, and errors in their place.

use super::{GENERATIONS, answered, post, small};
use crate::support::{Answer, Scripted, Server, eventually, messages};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use latentd::engine::EngineError;
use serde_json::{Value, json};
use tower::ServiceExt;

/// The events of a whole stream, each with the name that it has.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "text/event-stream"));
    let text = std::str::from_utf8(&answer.bytes).expect("text");
    let event = |text: &str| {
        let (name, data) = text.split_once('\n').expect("two lines");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        let name = name.strip_prefix("event: ").expect("a name");
        assert!(data["type"] == name || (name == "error" && data["error"].is_object()), "{text}");
        data
    };
    text.split_terminator("\n\n").filter(|text| !text.starts_with(':')).map(event).collect()
}

fn image(event: &Value) -> image::DynamicImage {
    let bytes = STANDARD.decode(event["b64_json"].as_str().expect("base64")).expect("base64");
    let format = image::ImageFormat::from_extension(event["output_format"].as_str().expect("a word"));
    image::load_from_memory_with_format(&bytes, format.expect("a format")).expect("an image")
}

#[tokio::test]
async fn a_stream_has_partial_images_and_then_the_complete_ones() {
    let server = Server::start().await;
    let input = small(json!({
        "stream": true, "partial_images": 3, "n": 2, "num_inference_steps": 25, "output_format": "webp"
    }));
    let mut request = post(GENERATIONS, &input);
    request.headers_mut().insert("host", "test".parse().expect("a host"));
    let response = server.router.clone().oneshot(request).await.expect("an answer");
    let id = response.headers()["x-request-id"].to_str().expect("an id").to_owned();
    let reading = tokio::spawn(Answer::of(response));
    let run = server.run_stepped("w").await;
    for step in 1..25 {
        run.step().await;
        let line = format!("step {step}/25");
        eventually(async || {
            let lines = messages(&server.status(&format!("/requests/{id}")).await);
            lines.iter().any(|found| found.starts_with(&line)).then_some(())
        })
        .await;
    }
    run.finish().await;
    let events = events(&reading.await.expect("a whole answer"));
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let (partial, complete) = kinds.split_at(kinds.len() - 2);
    assert_eq!(complete, ["image_generation.completed"; 2]);
    assert!(
        !partial.is_empty() && partial.iter().all(|kind| *kind == "image_generation.partial_image"),
        "{kinds:?}"
    );
    for (index, event) in events[..partial.len()].iter().enumerate() {
        assert_eq!((&event["partial_image_index"], &event["output_format"]), (&json!(index), &json!("jpeg")));
        image(event);
    }
    for event in &events[partial.len()..] {
        assert_eq!((&event["size"], &event["output_format"]), (&json!("32x16"), &json!("webp")));
        assert_eq!(event["usage"]["total_tokens"], 0);
        assert_eq!((image(event).width(), image(event).height()), (32, 16));
    }
}

#[tokio::test]
async fn a_stream_without_partial_images_has_the_complete_one() {
    let server = Server::start().await;
    let input = small(json!({ "stream": true }));
    let events = events(&answered(&server, post(GENERATIONS, &input), Scripted::grey()).await);
    assert_eq!(events.len(), 1);
    assert_eq!(image(&events[0]).width(), 32);
}

#[tokio::test]
async fn a_stream_ends_with_the_error_of_its_request() {
    let server = Server::start().await;
    let failing = Scripted::new(|_| Err(EngineError::OutOfMemory("no".into())));
    let request = post(GENERATIONS, &small(json!({ "stream": true })));
    let events = events(&answered(&server, request, failing).await);
    assert_eq!((events.len(), &events[0]["error"]["code"]), (1, &json!("out_of_memory")));
}
