//! Inpainting over HTTP: where the mask comes from, and what is refused.

use crate::init_image::{data_uri, from, look, png};
use crate::support::{Answer, ENDPOINT, Server};
use axum::http::StatusCode;
use serde_json::{Value, json};

/// An input whose image is of grey 33 and whose mask is of one grey.
fn masked(level: u8) -> Value {
    let mut input = from(&data_uri(&png(40, 24, 33)));
    input["mask_image_url"] = json!(data_uri(&png(7, 5, level)));
    input
}

async fn generated(server: &Server, path: &str, input: &Value) -> Answer {
    let request = server.submit_to(&format!("{ENDPOINT}/{path}"), input).await;
    server.generate_all().await;
    server.get(&request).await
}

/// Field and class of the one thing that is wrong.
fn refusal(answer: &Answer) -> (Value, Value) {
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
    let body = answer.json();
    let [problem] = body["detail"].as_array().expect("a list").as_slice() else { panic!("{body}") };
    (problem["loc"][1].clone(), problem["type"].clone())
}

/// The engine of the tests generates grey 128, and keeps the image under a black mask.
#[tokio::test]
async fn the_mask_reaches_the_engine() {
    let server = Server::start().await;
    for path in ["inpaint", "turbo/inpaint"] {
        let kept = generated(&server, path, &masked(0)).await;
        assert_eq!(look(&server, &kept).await, (40, 24, 33), "as large as the image");
        let anew = generated(&server, path, &masked(255)).await;
        assert_eq!(look(&server, &anew).await, (40, 24, 128));
    }
    let unasked = generated(&server, "image-to-image", &masked(255)).await;
    assert_eq!(look(&server, &unasked).await, (40, 24, 33), "an unknown field there");
}

#[tokio::test]
async fn a_mask_that_cannot_be_used_is_an_error_of_its_field() {
    let server = Server::start().await;
    let without = from(&data_uri(&png(40, 24, 33)));
    let answer = generated(&server, "inpaint", &without).await;
    assert_eq!(refusal(&answer), (json!("mask_image_url"), json!("missing")));
    for (mask, class) in [
        (data_uri(b"This is no image here"), "image_load_error"),
        ("http://test:1/files/none.png".to_owned(), "file_download_error"),
        ("mask.png".to_owned(), "file_download_error"),
        (data_uri(b"%PDF-1.7"), "unsupported_image_format"),
    ] {
        let mut input = masked(0);
        input["mask_image_url"] = json!(mask);
        let answer = generated(&server, "inpaint", &input).await;
        assert_eq!(refusal(&answer), (json!("mask_image_url"), json!(class)), "{mask:.60}");
    }
    let mut neither = masked(0);
    neither["image_url"] = json!(data_uri(b"This is no image here"));
    assert_eq!(refusal(&generated(&server, "inpaint", &neither).await).0, "image_url");
}

#[tokio::test]
async fn the_endpoints_document_has_the_mask() {
    let server = Server::start().await;
    let document = server.get(&format!("/openapi.json?endpoint_id={ENDPOINT}/inpaint")).await.json();
    let input = &document["components"]["schemas"]["StableDiffusionV35LargeInpaintInput"];
    assert_eq!(input["title"], "InpaintInput");
    assert_eq!(input["required"], json!(["prompt", "image_url", "mask_image_url"]));
}
