//! Images that are edited: the forms in which they are sent, and forms that are wrong on purpose.

use super::{EDITS, answered, first_image, form, refusal, small_form};
use crate::support::{Scripted, Server};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use std::io::Cursor;

/// A PNG of one grey.
fn png(width: u32, height: u32, level: u8) -> Vec<u8> {
    let image = image::RgbImage::from_pixel(width, height, image::Rgb([level; 3]));
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).expect("a PNG");
    bytes
}

#[tokio::test]
async fn an_image_is_edited_in_its_size_or_another() {
    let server = Server::start().await;
    for (fields, size) in [
        (&[][..], (48, 32)),
        (&[("size", "auto"), ("n", ""), ("user", "")], (48, 32)),
        (&[("size", "64x16"), ("n", "2"), ("strength", "0.5"), ("stream", "false")], (64, 16)),
    ] {
        let answer = answered(&server, small_form(fields, &png(48, 32, 200)), Scripted::grey()).await;
        let image = image::load_from_memory(&first_image(&answer)).expect("an image").into_rgb8();
        assert_eq!(((image.width(), image.height()), image.as_raw()[0]), (size, 200), "{fields:?}");
        assert_eq!(answer.json()["size"], format!("{}x{}", size.0, size.1));
    }
    let listed = form(EDITS, &[("prompt", "a fox")], &[("image[]", "a", &png(48, 32, 7))]);
    let medium = form(
        EDITS,
        &[("prompt", "a fox"), ("model", "stable-diffusion-3.5-medium")],
        &[("image", "a", &png(48, 32, 7))],
    );
    for request in [listed, medium] {
        assert_eq!(answered(&server, request, Scripted::grey()).await.status, StatusCode::OK);
    }
}

/// The engine of the tests generates grey 128, and keeps the image where the mask is opaque.
#[tokio::test]
async fn what_is_transparent_in_the_mask_is_generated_anew() {
    let server = Server::start().await;
    let image = png(48, 32, 7);
    for (alpha, level) in [(255, 7), (0, 128)] {
        let mask = image::RgbaImage::from_pixel(6, 4, image::Rgba([0, 0, 0, alpha]));
        let mut bytes = Vec::new();
        mask.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).expect("a PNG");
        let request = form(EDITS, &[("prompt", "a fox")], &[("image", "a", &image), ("mask", "b", &bytes)]);
        let answer = answered(&server, request, Scripted::grey()).await;
        let edited = image::load_from_memory(&first_image(&answer)).expect("an image").into_rgb8();
        assert_eq!(edited.as_raw()[0], level);
    }
    let request = form(EDITS, &[("prompt", "a fox")], &[("image", "a", &image), ("mask", "b", &image)]);
    let answer = answered(&server, request, Scripted::grey()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let error = &answer.json()["error"];
    assert_eq!((&error["param"], &error["code"]), (&json!("mask"), &json!("invalid_image")));
    assert!(error["message"].as_str().expect("a text").contains("no transparency"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_edited_is_refused_by_its_parameter() {
    let server = Server::start().await;
    let image = png(48, 32, 7);
    let prompt = [("prompt", "a fox")];
    let large = vec![0; 10 * 1024 * 1024 + 1];
    let cases = [
        (form(EDITS, &prompt, &[]), "image", "missing_required_parameter"),
        (form(EDITS, &[], &[("image", "a", &image)]), "prompt", "missing_required_parameter"),
        (form(EDITS, &prompt, &[("image", "a", b"")]), "image", "missing_required_parameter"),
        (form(EDITS, &prompt, &[("image", "a", &large)]), "image", "invalid_value"),
        (
            form(EDITS, &prompt, &[("image[]", "a", &image), ("image[]", "b", &image)]),
            "image",
            "invalid_value",
        ),
        (
            form(EDITS, &prompt, &[("image[0]", "a", &image), ("image[1]", "b", &image)]),
            "image",
            "invalid_value",
        ),
        (form(EDITS, &[("image", "https://example.com/a.png")], &[]), "image", "invalid_value"),
        (small_form(&[("svg[model]", "x")], &image), "svg[model]", "unsupported_parameter"),
        (
            form(EDITS, &prompt, &[("image", "a", &image), ("mask", "b", b"")]),
            "mask",
            "missing_required_parameter",
        ),
        (small_form(&[("mask", "text")], &image), "mask", "unknown_parameter"),
        (
            form(EDITS, &prompt, &[("image", "a", &image), ("other", "b", &image)]),
            "other",
            "unknown_parameter",
        ),
        (small_form(&[("strength", "0")], &image), "strength", "invalid_value"),
        (small_form(&[("input_fidelity", "high")], &image), "input_fidelity", "unsupported_parameter"),
    ];
    for (request, param, code) in cases {
        let answer = server.send(request).await;
        assert_eq!(refusal(&answer), (400, json!(param), json!(code)), "{answer:?}");
    }
    let answer = answered(&server, small_form(&[], b"not an image"), Scripted::grey()).await;
    assert_eq!(refusal(&answer), (400, json!("image"), json!("invalid_image")));
}

#[tokio::test]
async fn a_hostile_form_is_refused_and_never_queued() {
    let server = Server::start().await;
    let part = "content-disposition: form-data; name=\"prompt\"\r\n\r\n";
    let head = "multipart/form-data; boundary=b";
    let many: String = (0..100).map(|_| format!("--b\r\n{part}x\r\n")).collect();
    let cases: [(&str, &str, Vec<u8>); 12] = [
        ("no boundary", "multipart/form-data", b"--b--".to_vec()),
        ("no form", "application/json", br#"{"prompt": "x"}"#.to_vec()),
        ("no type", "", b"--b--".to_vec()),
        ("nothing", head, Vec::new()),
        ("no end", head, format!("--b\r\n{part}x").into_bytes()),
        ("no end of the head", head, b"--b\r\ncontent-disposition: form-data; name=\"prompt\"".to_vec()),
        ("another boundary", head, format!("--c\r\n{part}x\r\n--c--").into_bytes()),
        ("no name", head, b"--b\r\ncontent-disposition: form-data\r\n\r\nx\r\n--b--".to_vec()),
        ("no UTF-8", head, [format!("--b\r\n{part}").as_bytes(), b"\xff\xfe\r\n--b--"].concat()),
        ("many parts", head, format!("{many}--b--").into_bytes()),
        ("a head without end", head, format!("--b\r\n{}", "x-a: b\r\n".repeat(100_000)).into_bytes()),
        ("bytes", head, (0..100_000_u32).map(|n| ((n * 7919) >> 3) as u8).collect()),
    ];
    for (what, content_type, body) in cases {
        let mut request = Request::post(EDITS);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let answer = server.send(request.body(Body::from(body)).expect("a request")).await;
        assert_eq!(refusal(&answer).0, 400, "{what} {answer:?}");
    }
    let large = Request::post(EDITS).header("content-type", head).body(Body::from(vec![b'x'; 20 << 20]));
    let answer = server.send(large.expect("a request")).await;
    assert_eq!(refusal(&answer), (413, Value::Null, json!("request_too_large")));
    assert_eq!(server.waiting().await, 0);
}
