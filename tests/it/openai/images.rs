//! Images that are generated: their forms, sizes and settings, and what clients that go away and come back find.

use super::{GENERATIONS, answered, first_image, generated, post, refusal, small};
use crate::safety::checking_engine;
use crate::support::{ENDPOINT, Scripted, Server, eventually};
use axum::http::{Method, StatusCode};
use latentd::queue::{FailureKind, Outcome, Verdict};
use latentd_request::{ImageRequest, OutputFormat};
use serde_json::{Value, json};
use std::sync::mpsc::channel;
use std::time::Duration;

#[tokio::test]
async fn an_image_is_returned_in_base64_or_by_its_url() {
    let server = Server::start().await;
    let answer = generated(&server, &small(json!({ "n": 2 }))).await;
    let body = answer.json();
    let image = image::load_from_memory_with_format(&first_image(&answer), image::ImageFormat::Png);
    let image = image.expect("a PNG").into_rgb8();
    assert_eq!((image.width(), image.height()), (32, 16));
    assert_eq!(body["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(body["data"][0].get("url"), None);
    assert_eq!(
        (&body["size"], &body["seed"], &body["output_format"]),
        (&json!("32x16"), &json!(7), &json!("png"))
    );
    assert_eq!((&body["background"], &body["quality"]), (&json!("opaque"), &json!("medium")));
    assert!(body["created"].as_i64().is_some_and(|seconds| seconds > 1_700_000_000), "{body}");
    assert_eq!(server.files(), Vec::<String>::new(), "they are in the output alone");

    for format in ["png", "jpeg", "webp"] {
        let change = json!({ "response_format": "url", "user": "somebody", "output_format": format });
        let body = generated(&server, &small(change)).await.json();
        assert_eq!((body["data"][0].get("b64_json"), &body["safety_identifier"]), (None, &json!("somebody")));
        let url = body["data"][0]["url"].as_str().expect("a URL");
        let file = server.get(url.strip_prefix("http://test:1").expect("our URL")).await;
        assert_eq!(file.status, StatusCode::OK, "{format}");
        assert_eq!(file.header("content-type"), format!("image/{format}"));
    }
}

/// The requests that calls become.
async fn requests(server: &Server, inputs: &[Value]) -> Vec<ImageRequest> {
    let (sender, requests) = channel();
    for input in inputs {
        let sender = sender.clone();
        let engine = Scripted::new(move |call| {
            sender.send(call.request.clone()).expect("a receiver");
            call.grey()
        });
        let answer = answered(server, post(GENERATIONS, input), engine).await;
        assert_eq!(answer.status, StatusCode::OK, "{input} {answer:?}");
    }
    requests.try_iter().collect()
}

#[tokio::test]
async fn sizes_are_read_as_openai_writes_them() {
    let server = Server::start().await;
    let sizes = ["1024x1024", "auto", "640x480", "17x1536"];
    let mut inputs: Vec<Value> = sizes.iter().map(|size| small(json!({ "size": size }))).collect();
    inputs.push(small(json!({ "size": null })));
    let found: Vec<_> =
        requests(&server, &inputs).await.iter().map(|found| (found.width, found.height)).collect();
    assert_eq!(found, [(1024, 1024), (1024, 1024), (640, 480), (17, 1536), (1024, 1024)]);
    for size in ["1537x16", "16x1537", "0x16", "16", "16x", "x", "16×16", "-16x16", "1e2x16", ""] {
        let answer = server.call(Method::POST, GENERATIONS, &small(json!({ "size": size }))).await;
        assert_eq!(refusal(&answer), (400, json!("size"), json!("invalid_value")), "{size}");
    }
    let answer = server.call(Method::POST, GENERATIONS, &small(json!({ "size": 16 }))).await;
    assert_eq!(refusal(&answer), (400, json!("size"), json!("invalid_type")));
}

#[tokio::test]
async fn settings_reach_the_request() {
    let server = Server::start().await;
    let low = json!({ "prompt": "a fox", "quality": "low", "style": "vivid", "background": "opaque", "moderation": "low" });
    let own = small(json!({
        "negative_prompt": "rain", "guidance_scale": 2.5, "num_inference_steps": 5, "quality": "max", "n": 4,
        "enable_safety_checker": false, "output_format": "webp", "output_compression": 40, "seed": "18446744073709551615"
    }));
    let turbo = json!({ "prompt": "a fox", "model": "stable-diffusion-3.5-large-turbo", "quality": "hd" });
    let found = requests(&server, &[low, own, turbo]).await;
    assert_eq!((found[0].steps, found[0].guidance, found[0].quality), (14, 3.5, None));
    assert_eq!((found[0].check_safety, found[0].format, found[0].inline), (true, OutputFormat::Png, true));
    let ImageRequest { negative_prompt, guidance, steps, num_images, check_safety, .. } = &found[1];
    assert_eq!((negative_prompt.as_str(), *guidance, *steps), ("rain", 2.5, 5));
    assert_eq!((*num_images, *check_safety), (4, false));
    assert_eq!((found[1].format, found[1].quality), (OutputFormat::WebP, Some(40)));
    assert_eq!(found[1].seed.to_string(), "18446744073709551615");
    assert_eq!((found[2].model.as_str(), found[2].steps), ("stable-diffusion-3.5-large-turbo", 6));
}

/// An engine whose images have no smooth areas.
fn rough() -> Scripted {
    Scripted::new(|call| {
        let mut images = call.images_after(|| {});
        Ok(Box::new(move |decoding| {
            let mut generated = images(decoding)?;
            for image in &mut generated.images {
                image.rgb.iter_mut().enumerate().for_each(|(at, value)| *value = (at * at / 7) as u8);
            }
            Ok(generated)
        }))
    })
}

#[tokio::test]
async fn files_are_of_the_format_and_quality_that_is_asked_for() {
    let server = Server::start().await;
    let of = async |format: &str, compression: Option<u8>| {
        let change = json!({ "output_format": format, "output_compression": compression, "size": "128x128" });
        let answer = answered(&server, post(GENERATIONS, &small(change)), rough()).await;
        assert_eq!(answer.json()["output_format"], format);
        first_image(&answer)
    };
    for (format, kind) in [
        ("png", image::ImageFormat::Png),
        ("jpeg", image::ImageFormat::Jpeg),
        ("webp", image::ImageFormat::WebP),
    ] {
        let bytes = of(format, None).await;
        assert_eq!(image::guess_format(&bytes).expect("an image"), kind);
    }
    assert_eq!(of("png", Some(100)).await, of("png", None).await);
    assert_eq!(of("webp", Some(95)).await, of("webp", None).await);
    for format in ["jpeg", "webp"] {
        assert!(of(format, Some(0)).await.len() < of(format, Some(100)).await.len(), "{format}");
    }
}

#[tokio::test]
async fn a_model_has_several_names() {
    let server = Server::with(|api| {
        api.endpoints[2].served.as_mut().expect("it is served").stand_in = Some("mini".into());
    })
    .await;
    let list = server.get("/v1/models").await.json();
    let ids = list["data"].as_array().expect("a list").iter().map(|model| model["id"].clone());
    assert_eq!(list["object"], "list");
    assert_eq!(
        ids.collect::<Vec<_>>(),
        ["stable-diffusion-3.5-large", "stable-diffusion-3.5-large-turbo", "mini"]
    );
    for (name, id) in [
        ("stable-diffusion-3.5-large", "stable-diffusion-3.5-large"),
        ("stabilityai%2Fstable-diffusion-3.5-large", "stable-diffusion-3.5-large"),
        ("stabilityai/stable-diffusion-3.5-large-turbo", "stable-diffusion-3.5-large-turbo"),
        ("fal-ai%2Fstable-diffusion-v35-large%2Fturbo", "stable-diffusion-3.5-large-turbo"),
        ("stable-diffusion-3.5-medium", "mini"),
        ("mini", "mini"),
    ] {
        let model = server.get(&format!("/v1/models/{name}")).await.json();
        assert_eq!((&model["id"], &model["object"]), (&json!(id), &json!("model")), "{name}");
        assert!(model["created"].is_i64() && model["owned_by"].is_string(), "{model}");
    }
    for name in ["dall-e-3", "MINI", "stabilityai", "%ff"] {
        let answer = server.get(&format!("/v1/models/{name}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}");
        refusal(&answer);
    }
    let inputs = ["mini", "stable-diffusion-3.5-medium"].map(|model| small(json!({ "model": model })));
    let found = requests(&server, &inputs).await;
    assert!(found.iter().all(|found| found.model == "stable-diffusion-3.5-medium"), "{found:?}");
}

#[tokio::test]
async fn unsafe_images_are_left_out_and_where_no_other_is_left_refused() {
    let server = Server::start().await;
    let two = post(GENERATIONS, &small(json!({ "n": 2 })));
    let answer = answered(&server, two, checking_engine()).await;
    assert_eq!(answer.json()["data"].as_array().map(Vec::len), Some(1));
    let all = Scripted::new(|call| {
        let mut images = call.images_after(|| {});
        Ok(Box::new(move |decoding| {
            let mut generated = images(decoding)?;
            generated.verdicts = vec![latentd::engine::SafetyVerdict {
                score: 1.0,
                measure: latentd::engine::Measure::Probability,
                flagged: true,
            }];
            Ok(generated)
        }))
    });
    let answer = answered(&server, post(GENERATIONS, &small(json!({}))), all).await;
    assert_eq!(refusal(&answer), (400, Value::Null, json!("content_policy_violation")));
}

#[tokio::test]
async fn a_client_that_goes_away_stops_its_request() {
    let server = Server::start().await;
    let router = server.router.clone();
    let call = tokio::spawn(async move {
        let mut request = post(GENERATIONS, &small(json!({ "num_inference_steps": 50 })));
        request.headers_mut().insert("host", "test".parse().expect("a host"));
        tower::ServiceExt::oneshot(router, request).await
    });
    server.until_one_waits().await;
    let claim = server.claim("w").await;
    call.abort();
    eventually(async || {
        let verdict = server.queue.verdict(&claim).await.expect("a database");
        (verdict == Verdict::Cancelled).then_some(())
    })
    .await;
    server.queue.give_back(&claim).await.expect("a database");
    match server.queue.outcome(claim.id).await.expect("a database") {
        Some(Outcome::Failed(failure)) => assert_eq!(failure.kind, FailureKind::Cancelled),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_with_its_key_is_the_same() {
    let server = Server::start().await;
    let keyed = |input: &Value| {
        let mut request = post(GENERATIONS, input);
        request.headers_mut().insert("idempotency-key", "k".parse().expect("a key"));
        request
    };
    let input = json!({ "prompt": "a fox", "size": "32x16", "num_inference_steps": 1 });
    let first = answered(&server, keyed(&input), Scripted::grey()).await;
    let again = server.send(keyed(&input)).await;
    assert_eq!(first_image(&first), first_image(&again));
    assert_eq!(first.json()["seed"], again.json()["seed"]);
    let other = server.send(keyed(&small(json!({})))).await;
    assert_eq!(refusal(&other), (400, Value::Null, json!("idempotency_key_taken")));
}

#[tokio::test]
async fn a_request_is_one_of_the_endpoint_and_a_long_one_answers_early() {
    let server = Server::with(|api| api.run_patience = Duration::ZERO).await;
    let answer = generated(&server, &small(json!({}))).await;
    assert_eq!(answer.status, StatusCode::OK);
    let text = std::str::from_utf8(&answer.bytes).expect("text");
    assert!(text.starts_with(" {"), "white space is sent before the result: {text:.20}");
    let request = format!("/{ENDPOINT}/requests/{}", answer.header("x-request-id"));
    let status = server.status(&request).await;
    assert_eq!(status["status"], "COMPLETED");
    assert!(status["response_url"].as_str().is_some_and(|url| url.contains(ENDPOINT)), "{status}");
    let failing = Scripted::new(|_| Err(latentd::engine::EngineError::Numbers("as the test wants".into())));
    let late = answered(&server, post(GENERATIONS, &small(json!({}))), failing).await;
    assert!(late.bytes.starts_with(b" The request failed: {\"error\":"), "{late:?}");
}
