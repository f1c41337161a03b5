//! Image to image over HTTP: where the image comes from, how large the result is, what is refused and what is kept.

use crate::sockets::Listening;
use crate::support::{
    Answer, ENDPOINT, Scripted, Server, eventually, every_model, messages, small, tick_until_idle,
};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::io::Cursor;
use std::sync::{Arc, Mutex};

/// An image of one grey, as a PNG.
pub(crate) fn png(width: u32, height: u32, level: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = image::RgbImage::from_pixel(width, height, image::Rgb([level; 3]));
    image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).expect("a PNG");
    bytes
}

pub(crate) fn data_uri(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(bytes))
}

/// An image-to-image input without a size of its own.
pub(crate) fn from(url: &str) -> Value {
    json!({ "prompt": "a fox", "image_url": url, "num_inference_steps": 3, "output_format": "png" })
}

/// Submits to the image-to-image endpoint; returns the request's path.
pub(crate) async fn submit(server: &Server, input: &Value) -> String {
    server.submit_to(&format!("{ENDPOINT}/image-to-image"), input).await
}

/// Submits an image-to-image input and generates; the result.
pub(crate) async fn generated(server: &Server, input: &Value) -> Answer {
    let request = submit(server, input).await;
    server.generate_all().await;
    server.get(&request).await
}

/// Width, height and grey of the first image of a result.
pub(crate) async fn look(server: &Server, result: &Answer) -> (u32, u32, u8) {
    assert_eq!(result.status, StatusCode::OK, "{result:?}");
    let url = result.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
    let file = server.get(url.strip_prefix("http://test:1").expect("a URL of the server")).await;
    let image = image::load_from_memory(&file.bytes).expect("an image").into_rgb8();
    (image.width(), image.height(), image.get_pixel(0, 0).0[0])
}

/// Class and context of the one thing that is wrong with `image_url`.
pub(crate) fn refusal(answer: &Answer) -> (String, Value) {
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
    let body = answer.json();
    let [problem] = body["detail"].as_array().expect("a list").as_slice() else { panic!("{body}") };
    assert_eq!(problem["loc"], json!(["body", "image_url"]));
    (problem["type"].as_str().expect("a class").to_owned(), problem["ctx"].clone())
}

async fn upload(server: &Server, bytes: Vec<u8>, lifetime: Option<u32>) -> String {
    let request = Request::post("/files/upload").header("host", "test:1").header("content-type", "image/png");
    let life = lifetime.map(|seconds| json!({ "expiration_duration_seconds": seconds }).to_string());
    let request =
        life.into_iter().fold(request, |request, life| request.header("x-fal-object-lifecycle", life));
    let answer = server.send(request.body(Body::from(bytes)).expect("a request")).await;
    answer.json()["access_url"].as_str().expect("a URL").to_owned()
}

#[tokio::test]
async fn an_inline_initial_image_is_used() {
    let server = Server::start().await;
    let result = generated(&server, &from(&data_uri(&png(40, 24, 33)))).await;
    assert_eq!(look(&server, &result).await, (40, 24, 33), "as large as the image");
    let log = generated(&server, &from(&data_uri(b"This is no image here"))).await;
    assert_eq!(refusal(&log).0, "image_load_error");
}

/// Python's urllib, with which fal's toolkit reads data URIs, takes all of these.
#[tokio::test]
async fn a_data_uri_may_be_broken_into_lines_and_percent_encoded() {
    let server = Server::start().await;
    let png = png(40, 24, 33);
    let base64 = BASE64_STANDARD.encode(&png);
    let lines = |end: &str| {
        base64.as_bytes().chunks(76).map(|line| [line, end.as_bytes()].concat()).collect::<Vec<_>>().concat()
    };
    let lines = |end| String::from_utf8(lines(end)).expect("letters");
    let percent: String = base64.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
    let raw: String = png.iter().map(|byte| format!("%{byte:02X}")).collect();
    for uri in [
        format!("data:image/png;base64,{}", lines("\n")),
        format!("data:image/png;base64,{}", lines("\r\n")),
        format!("data:image/png;base64,{percent}"),
        format!("data:image/png;base64,{}", lines("%0A")),
        format!(" data:image/png;base64,\t{base64} \n"),
        format!("data:image/png,{raw}"),
    ] {
        let result = generated(&server, &from(&uri)).await;
        assert_eq!(look(&server, &result).await, (40, 24, 33), "{uri:.60}");
    }
}

/// An image of one grey in another format.
fn written(format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(40, 24, image::Rgb([33; 3]));
    let image = image::DynamicImage::from(image);
    let image = if format == image::ImageFormat::Gif { image.into_rgba8().into() } else { image };
    image.write_to(&mut bytes, format).expect("a file");
    bytes.into_inner()
}

#[tokio::test]
async fn initial_images_of_other_formats_are_used() {
    let server = Server::start().await;
    for format in
        [image::ImageFormat::Gif, image::ImageFormat::Bmp, image::ImageFormat::Tiff, image::ImageFormat::WebP]
    {
        let result = generated(&server, &from(&data_uri(&written(format)))).await;
        assert_eq!(look(&server, &result).await, (40, 24, 33), "{format:?}");
    }
}

#[tokio::test]
async fn a_format_that_is_not_read_is_refused_by_its_name() {
    let server = Server::start().await;
    for (bytes, name) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "HEIC"),
        (b"\xff\x0a\xff\xff", "JPEG XL"),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"),
        (b"%PDF-1.7", "PDF"),
    ] {
        let answer = generated(&server, &from(&data_uri(bytes))).await;
        let (class, context) = refusal(&answer);
        assert_eq!(class, "unsupported_image_format", "{name}");
        let formats = context["supported_formats"].as_array().expect("a list");
        assert!(formats.contains(&json!("gif")), "{formats:?}");
        let words = answer.json()["detail"][0]["msg"].as_str().expect("a text").to_owned();
        assert!(words.contains(&format!("{name} is not read")), "{words}");
    }
}

#[tokio::test]
async fn the_size_is_the_images_unless_another_is_asked_for() {
    let server = Server::start().await;
    let mut input = from(&data_uri(&png(3000, 1500, 7)));
    assert_eq!(look(&server, &generated(&server, &input).await).await, (1536, 768, 7), "the model's limit");
    input["image_size"] = json!({ "width": 64, "height": 48 });
    assert_eq!(look(&server, &generated(&server, &input).await).await, (64, 48, 7));
    input["image_size"] = Value::Null;
    assert_eq!(look(&server, &generated(&server, &input).await).await, (1536, 768, 7));
}

#[tokio::test]
async fn a_file_of_this_server_is_read_and_not_called() {
    let server = Server::start().await;
    let url = upload(&server, png(20, 10, 90), None).await;
    let result = generated(&server, &from(&url)).await;
    assert_eq!(look(&server, &result).await, (20, 10, 90));
    let of_result = result.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
    let again = generated(&server, &from(&of_result)).await;
    assert_eq!(look(&server, &again).await, (20, 10, 90), "a result as the initial image");
    let name = url.rsplit('/').next().expect("a name");
    let fals = generated(&server, &from(&format!("https://v3.fal.media/files/{name}"))).await;
    assert_eq!(look(&server, &fals).await, (20, 10, 90), "as a program that is not changed names it");
}

#[tokio::test]
async fn a_file_that_is_gone_is_a_download_error() {
    let server = Server::start().await;
    let url = upload(&server, png(20, 10, 90), Some(60)).await;
    server.clock.advance(61);
    let gone = [
        url.as_str(),
        "http://test:1/files/0123456789abcdef0123456789abcdef.png",
        "http://test:1/files/no-file",
        "http://test:1/health",
        "https://v3.fal.media/files/zebra/abc.png",
    ];
    for url in gone {
        assert_eq!(refusal(&generated(&server, &from(url)).await).0, "file_download_error", "{url}");
    }
}

#[tokio::test]
async fn what_is_no_url_is_refused_before_it_waits() {
    let server = Server::with(|api| api.validate_on_submit = true).await;
    let path = format!("/queue/{ENDPOINT}/turbo/image-to-image");
    let too_large = data_uri(&vec![0; 10 * 1024 * 1024 + 1]);
    let cases = [
        ("", "file_download_error"),
        ("house.jpg", "file_download_error"),
        ("file:///etc/passwd", "file_download_error"),
        ("ftp://example.com/a.png", "file_download_error"),
        ("http://user:pass@example.com/a.png", "file_download_error"),
        ("data:image/png;base64,???", "file_download_error"),
        (&format!("http://example.com/{}", "a".repeat(9000)), "file_download_error"),
        (&too_large, "file_too_large"),
    ];
    for (url, class) in cases {
        let answer = server.call(Method::POST, &path, &from(url)).await;
        let (found, context) = refusal(&answer);
        assert_eq!(found, class, "{}", &url[..url.len().min(40)]);
        assert!(answer.bytes.len() < 2000, "the input is not repeated whole");
        assert_eq!(context.is_null(), class != "file_too_large");
    }
    let without = server.call(Method::POST, &path, &json!({ "prompt": "a fox" })).await;
    assert_eq!(refusal(&without).0, "missing");
    for strength in [0.0, 1.01] {
        let mut input = from("http://example.com/a.png");
        input["strength"] = json!(strength);
        let answer = server.call(Method::POST, &path, &input).await;
        assert_eq!(answer.json()["detail"][0]["loc"], json!(["body", "strength"]));
    }
}

#[tokio::test]
async fn text_to_image_does_not_look_at_an_image() {
    let server = Server::start().await;
    let mut input = small();
    input["image_url"] = json!("file:///etc/passwd");
    let request = server.submit(&input).await;
    server.generate_all().await;
    assert_eq!(server.get(&request).await.status, StatusCode::OK);
    let elsewhere = server.call(Method::POST, &format!("/queue/{ENDPOINT}/upscale"), &input).await;
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn damaged_and_huge_images_have_different_errors() {
    let server = Server::start().await;
    let whole = png(64, 64, 5);
    let half = generated(&server, &from(&data_uri(&whole[..whole.len() / 2]))).await;
    assert_eq!(refusal(&half).0, "image_load_error");
    let empty = generated(&server, &from("data:image/png;base64,")).await;
    assert_eq!(refusal(&empty).0, "image_load_error");
    let long = generated(&server, &from(&data_uri(&png(14_143, 1, 5)))).await;
    let limits = json!({ "max_height": 14_142, "max_width": 14_142 });
    assert_eq!(refusal(&long), ("image_too_large".to_owned(), limits));
}

#[tokio::test]
async fn the_engine_gets_the_strength() {
    let server = Server::start().await;
    let mut input = from(&data_uri(&png(16, 8, 1)));
    submit(&server, &input).await;
    input["strength"] = json!("0.25");
    submit(&server, &input).await;
    server.submit(&small()).await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = calls.clone();
    let engine = Scripted::new(move |call| {
        let strength = call.init_image.as_ref().map(|initial| initial.strength);
        seen.lock().expect("one engine").push((call.request.width, call.request.height, strength));
        call.grey()
    });
    tick_until_idle(&mut server.worker("w", engine).await).await;
    let expected = [(16, 8, Some(0.83)), (16, 8, Some(0.25)), (32, 16, None)];
    assert_eq!(*calls.lock().expect("one engine"), expected);
}

#[tokio::test]
async fn run_by_post_and_get_takes_an_initial_image() {
    let server = Server::start().await;
    let url = upload(&server, png(20, 10, 90), None).await;
    let query: String = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("prompt", "a fox"),
            ("image_url", &url),
            ("output_format", "png"),
            ("strength", "0.5"),
        ])
        .finish();
    let path = format!("/run/{ENDPOINT}/image-to-image");
    for (method, path, body) in
        [(Method::POST, path.clone(), from(&url)), (Method::GET, format!("{path}?{query}"), Value::Null)]
    {
        let generating = async {
            eventually(async || server.queue.peek(&every_model()).await.expect("a database")).await;
            server.generate_all().await;
        };
        let (answer, ()) = tokio::join!(server.call(method, &path, &body), generating);
        assert_eq!(look(&server, &answer).await, (20, 10, 90));
    }
}

#[tokio::test]
async fn web_sockets_take_initial_images() {
    let listening = Listening::start().await.generate().await;
    let mut input = from(&data_uri(&png(40, 24, 33)));
    let mut realtime = listening.connect("/image-to-image/realtime").await;
    realtime.json(&input).await;
    let result = realtime.text().await;
    assert_eq!((&result["images"][0]["width"], &result["images"][0]["height"]), (&json!(40), &json!(24)));
    // A result of this connection, by the URL that it gave.
    input["image_url"] = result["images"][0]["url"].clone();
    let path = format!("/ws/{ENDPOINT}/image-to-image");
    let mut carried = listening.try_connect(&path, &[]).await.expect("a web socket");
    carried.json(&input).await;
    assert_eq!(carried.text().await["status"], 200);
    assert_eq!(carried.text().await["images"][0]["width"], 40);
}

#[tokio::test]
async fn an_image_is_erased_with_its_prompt() {
    let server = Server::start().await;
    let uri = data_uri(&png(40, 24, 33));
    let secret = &uri[40..80];
    let request = Request::post(format!("/queue/{ENDPOINT}/image-to-image")).header("host", "test:1");
    let request = request.header("x-fal-store-io", "0").body(Body::from(from(&uri).to_string()));
    server.send(request.expect("a request")).await;
    assert!(server.stored_text().await.contains(secret), "while it waits");
    server.generate_all().await;
    let kept = server.finds("SELECT 1 FROM requests WHERE body LIKE '%inline%'").await;
    assert!(!kept, "when it is over");
}

#[tokio::test]
async fn logs_name_no_url() {
    let server = Server::start().await;
    let url = "http://127.0.0.1:9/a.png?signature=SECRET";
    let request = submit(&server, &from(url)).await;
    server.generate_all().await;
    let status = server.status(&request).await;
    assert!(messages(&status).iter().any(|line| line.contains("fetching")), "{status}");
    assert!(!status.to_string().contains("SECRET"), "{status}");
}

#[tokio::test]
async fn a_request_with_an_initial_image_is_cancelled_at_a_step() {
    let server = Server::start().await;
    let request = submit(&server, &from(&data_uri(&png(40, 24, 33)))).await;
    let run = server.run_stepped("w").await;
    run.step().await;
    assert_eq!(server.put(&format!("{request}/cancel")).await.status, StatusCode::ACCEPTED);
    run.finish().await;
    assert_eq!(server.get(&request).await.status.as_u16(), 499);
}

#[tokio::test]
async fn the_endpoints_document_has_the_image() {
    let server = Server::start().await;
    for (id, input_name) in [
        ("image-to-image", "StableDiffusionV35LargeImageToImageInput"),
        ("turbo/image-to-image", "StableDiffusionV35LargeTurboImageToImageInput"),
    ] {
        let document = server.get(&format!("/openapi.json?endpoint_id={ENDPOINT}/{id}")).await.json();
        assert_eq!(document["info"]["x-fal-metadata"]["category"], "image-to-image");
        let input = &document["components"]["schemas"][input_name];
        assert_eq!(input["title"], "ImageToImageInput");
        assert_eq!(input["required"], json!(["prompt", "image_url"]));
        let strength = &input["properties"]["strength"];
        assert_eq!((&strength["minimum"], &strength["default"]), (&json!(0.01), &json!(0.83)));
        let body = &document["paths"][format!("/{ENDPOINT}/{id}")]["post"]["requestBody"];
        let schema = &body["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(schema, &format!("#/components/schemas/{input_name}"));
    }
}
