//! OpenAI's image API.

mod errors;
mod forms;
mod images;
mod stream;

use crate::support::{Answer, Scripted, Server, tick_until_idle};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub(crate) const GENERATIONS: &str = "/v1/images/generations";
pub(crate) const EDITS: &str = "/v1/images/edits";

/// An input of three steps whose image is small.
pub(crate) fn small(change: Value) -> Value {
    let mut input = json!({ "prompt": "a fox", "size": "32x16", "num_inference_steps": 3, "seed": 7 });
    for (name, value) in change.as_object().expect("an object") {
        input[name] = value.clone();
    }
    input
}

/// A form with text fields and files: name, file name and bytes.
pub(crate) fn form(path: &str, fields: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> Request<Body> {
    const BOUNDARY: &str = "limit";
    let mut body = Vec::new();
    for (name, value) in fields {
        let head =
            format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(head.as_bytes());
    }
    for (name, file, bytes) in files {
        let place = format!("content-disposition: form-data; name=\"{name}\"; filename=\"{file}\"");
        body.extend_from_slice(format!("--{BOUNDARY}\r\n{place}\r\n\r\n").as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    Request::post(path).header("content-type", content_type).body(Body::from(body)).expect("a request")
}

/// A form that edits an image into a small one.
pub(crate) fn small_form(change: &[(&str, &str)], image: &[u8]) -> Request<Body> {
    let mut fields = vec![("prompt", "a fox"), ("num_inference_steps", "3"), ("seed", "7")];
    fields.extend_from_slice(change);
    form(EDITS, &fields, &[("image", "house.png", image)])
}

/// The answer to a call, while a worker with this engine generates what waits.
pub(crate) async fn answered(server: &Server, request: Request<Body>, engine: Scripted) -> Answer {
    let generating = async {
        server.until_one_waits().await;
        tick_until_idle(&mut server.worker("worker", engine).await).await;
    };
    tokio::join!(server.send(request), generating).0
}

/// The answer to a call that generates grey images.
pub(crate) async fn generated(server: &Server, input: &Value) -> Answer {
    answered(server, post(GENERATIONS, input), Scripted::grey()).await
}

pub(crate) fn post(path: &str, input: &Value) -> Request<Body> {
    let request =
        Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
    request.body(Body::from(input.to_string())).expect("a request")
}

/// The bytes of the first image of a response.
pub(crate) fn first_image(answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    STANDARD.decode(answer.json()["data"][0]["b64_json"].as_str().expect("base64")).expect("base64")
}

/// Status, parameter and code of a call that is refused.
pub(crate) fn refusal(answer: &Answer) -> (u16, Value, Value) {
    let body = answer.json();
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|words| !words.is_empty()), "{body}");
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
    assert_eq!(answer.header("x-request-id"), answer.header("x-fal-request-id"));
    assert_eq!(answer.header("x-request-id").len(), 36);
    (answer.status.as_u16(), error["param"].clone(), error["code"].clone())
}
