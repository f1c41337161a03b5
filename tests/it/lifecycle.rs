//! Submit, status and result of requests that end well and badly.

use crate::support::{ENDPOINT, Server, eventually, messages, small, small_with, stepped_engine};
use axum::http::{Method, StatusCode};
use latentd::engine::EngineError;
use serde_json::{Value, json};

#[tokio::test]
async fn a_submit_is_answered_with_everything_a_client_reads() {
    let server = Server::start().await;
    let answer = server.call(Method::POST, &format!("/queue/{ENDPOINT}"), &small()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let mut body = answer.json();
    let id = body["request_id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.header("x-fal-request-id"), id);
    let url = format!("http://test:1/queue/{ENDPOINT}/requests/{id}");
    let expected = json!({
        "status": "IN_QUEUE", "request_id": id, "gateway_request_id": id,
        "response_url": url, "status_url": format!("{url}/status"), "cancel_url": format!("{url}/cancel"),
        "logs": [], "metrics": {}, "queue_position": 0,
    });
    assert_eq!(body, expected);

    body = server.call(Method::POST, &format!("/queue/{ENDPOINT}/turbo/"), &small()).await.json();
    assert_eq!(body["queue_position"], 1);
    let url = body["response_url"].as_str().expect("a URL");
    assert!(url.contains("large/requests/"), "the sub-path is dropped: {url}");
}

#[tokio::test]
async fn a_request_waits_runs_and_completes() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let waiting = server.get(&format!("{request}/status/?logs=true")).await;
    assert_eq!(waiting.status, StatusCode::ACCEPTED);
    assert_eq!(waiting.json()["status"], "IN_QUEUE");
    assert_eq!(waiting.json()["queue_position"], 0);
    assert_eq!(waiting.json()["logs"], json!([]));
    let early = server.get(&request).await;
    assert_eq!(
        (early.status, early.json()["detail"].clone()),
        (StatusCode::BAD_REQUEST, json!("Request is still in progress"))
    );

    let run = server.run_stepped("w").await;
    run.step().await;
    run.step().await;
    let running = eventually(async || {
        let status = server.status(&request).await;
        messages(&status).iter().any(|line| line.starts_with("step 2/3")).then_some(status)
    })
    .await;
    assert_eq!(running["status"], "IN_PROGRESS");
    assert_eq!(running.get("queue_position"), None);
    assert_eq!(running["metrics"], json!({}));

    run.finish().await;
    let done = server.get(&format!("{request}/status")).await;
    assert_eq!(done.status, StatusCode::OK);
    let done = done.json();
    assert_eq!((&done["status"], &done["logs"]), (&json!("COMPLETED"), &json!([])));
    assert!(done["metrics"]["inference_time"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert_eq!((done.get("error"), done.get("error_type")), (None, None));
}

/// The file of a result's first image.
pub(crate) async fn file_of(server: &Server, request: &str) -> Vec<u8> {
    let url = server.get(request).await.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
    server.get(url.strip_prefix("http://test:1").expect("a URL of the server")).await.bytes.to_vec()
}

/// 1792x1024 is what LiteLLM makes of DALL-E's sizes, 21:9 one of the Vercel AI SDK's proportions.
#[tokio::test]
async fn sizes_that_clients_derive_are_generated_and_scaled() {
    let scaled = |api: &mut latentd_fal::Api| {
        for served in api.endpoints.iter_mut().filter_map(|endpoint| endpoint.served.as_mut()) {
            served.limits = latentd_request::Limits::scaled(512);
        }
    };
    let server = Server::with(scaled).await;
    for ((width, height), from) in [
        ((1792, 1024), "512x293"),
        ((2016, 864), "512x219"),
        ((1024, 1792), "293x512"),
        ((14_142, 1), "512x1"),
    ] {
        let mut input = small();
        input["image_size"] = json!({ "width": width, "height": height });
        let request = server.submit(&input).await;
        server.generate_all().await;
        let result = server.get(&request).await.json();
        assert_eq!(
            (&result["images"][0]["width"], &result["images"][0]["height"]),
            (&json!(width), &json!(height))
        );
        let image = image::load_from_memory(&file_of(&server, &request).await).expect("an image");
        assert_eq!((image.width(), image.height()), (width, height));
        let line = format!(
            "generated at {from}, the largest that this model generates, and scaled to {width}x{height}"
        );
        assert!(messages(&server.status(&request).await).contains(&line), "{line}");
    }
    let mut input = small();
    input["image_size"] = json!({ "width": 14_142, "height": 14_142 });
    let refused = server.call(Method::POST, &format!("/run/{ENDPOINT}"), &input).await;
    let problem = refused.json()["detail"][0].clone();
    assert_eq!(
        (refused.status, &problem["ctx"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!({ "le": 1 << 24 }))
    );
    assert!(problem["msg"].as_str().is_some_and(|words| words.starts_with("14142x14142: ")), "{problem}");
}

#[tokio::test]
async fn the_list_of_models_has_the_endpoints_that_are_served() {
    let stand_in = |api: &mut latentd_fal::Api| {
        api.endpoints[0].served.as_mut().expect("it is served").stand_in = Some("mini".into());
    };
    let server = Server::with(stand_in).await;
    let ids = async |query: &str| {
        let list = server.get(&format!("/v1/models{query}")).await.json();
        assert_eq!((&list["has_more"], &list["next_cursor"]), (&json!(false), &Value::Null));
        let models = list["models"].as_array().expect("a list").clone();
        models
            .iter()
            .map(|model| model["endpoint_id"].as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("").await.len(), 7);
    assert_eq!(ids(&format!("?endpoint_id={ENDPOINT}")).await, [ENDPOINT]);
    let turbo = ["image-to-image", "inpaint"].map(|task| format!("{ENDPOINT}/turbo/{task}"));
    assert_eq!(ids("?category=image-to-image&q=turbo").await, turbo);
    assert_eq!(ids("?endpoint_id=fal-ai/flux/dev").await, Vec::<String>::new());
    let first = server.get("/v1/models").await.json()["models"][0]["metadata"].clone();
    assert_eq!(first["display_name"], "mini, in place of Stable Diffusion 3.5 Large");
    assert_eq!(first["model_url"], format!("http://test:1/run/{ENDPOINT}"));
}

#[tokio::test]
async fn health_names_the_model_that_answers() {
    let stand_in = |api: &mut latentd_fal::Api| {
        api.endpoints[0].served.as_mut().expect("it is served").stand_in = Some("mini".into());
    };
    let models = Server::with(stand_in).await.get("/health").await.json()["models"].clone();
    assert_eq!((&models[0]["name"], &models[0]["endpoint"]), (&json!("mini"), &json!(ENDPOINT)));
    assert_eq!(models[0]["title"], "mini, in place of Stable Diffusion 3.5 Large");
    assert_eq!(models[1]["name"], "stable-diffusion-3.5-large-turbo");
}

#[tokio::test]
async fn the_result_has_the_five_fields_and_its_image_can_be_fetched() {
    let server = Server::start().await;
    let mut input = small();
    input["num_images"] = json!(2);
    let request = server.submit(&input).await;
    server.generate_all().await;
    for path in [request.clone(), format!("{request}/"), format!("{request}/response")] {
        let answer = server.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(path.contains(answer.header("x-fal-request-id")));
        let body = answer.json();
        let keys: Vec<&String> = body.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["has_nsfw_concepts", "images", "prompt", "seed", "timings"]);
        assert_eq!((&body["seed"], &body["prompt"]), (&json!(7), &json!("a fox")));
        assert_eq!(body["has_nsfw_concepts"], json!([false, false]));
        assert!(body["timings"].as_object().expect("an object").values().all(Value::is_number));
        for image in body["images"].as_array().expect("a list") {
            assert_eq!((&image["width"], &image["height"]), (&json!(32), &json!(16)));
            assert_eq!(image["content_type"], "image/jpeg");
            let path =
                image["url"].as_str().and_then(|url| url.strip_prefix("http://test:1")).expect("our URL");
            let file = server.get(path).await;
            assert_eq!((file.status, file.header("content-type")), (StatusCode::OK, "image/jpeg"));
            assert!(file.bytes.starts_with(b"\xff\xd8") && file.bytes.ends_with(b"\xff\xd9"));
        }
    }
}

#[tokio::test]
async fn log_lines_have_their_fields_where_each_client_looks() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    server.generate_all().await;
    let status = server.status(&request).await;
    let lines = messages(&status);
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(
        lines[0].starts_with("encoding prompt") && lines[3].starts_with("step 3/3") && lines[4] == "decoding"
    );
    let log = &status["logs"][1];
    assert_eq!((&log["level"], &log["source"]), (&json!("INFO"), &json!("USER")));
    assert_eq!(log["labels"], json!({ "level": "INFO", "source": "USER" }));
    let timestamp = log["timestamp"].as_str().expect("text");
    assert_eq!((timestamp.len(), &timestamp[26..]), (27, "Z"), "{timestamp}");
}

#[tokio::test]
async fn sync_mode_answers_with_the_bytes_and_keeps_no_file() {
    let server = Server::start().await;
    let mut input = small();
    (input["sync_mode"], input["output_format"]) = (json!(true), json!("png"));
    let request = server.submit(&input).await;
    server.generate_all().await;
    let body = server.get(&request).await.json();
    let url = body["images"][0]["url"].as_str().expect("a URL");
    assert!(url.starts_with("data:image/png;base64,iVBORw0KGgo"), "{url}");
    assert_eq!(server.files(), Vec::<String>::new());
}

#[tokio::test]
async fn a_random_seed_is_in_the_result_and_not_repeated() {
    let server = Server::start().await;
    let mut seeds = Vec::new();
    for seed in [Value::Null, Value::Null] {
        let request = server.submit(&small_with("seed", seed)).await;
        server.generate_all().await;
        seeds.push(server.get(&request).await.json()["seed"].as_u64().expect("a seed"));
    }
    assert!(seeds[0] != seeds[1] && seeds.iter().all(|seed| *seed <= u64::from(u32::MAX)), "{seeds:?}");
}

#[tokio::test]
async fn what_the_engine_refuses_is_a_failed_request_and_not_a_dead_worker() {
    let cases = [
        (EngineError::Request("too wide".into()), StatusCode::UNPROCESSABLE_ENTITY, "bad_request"),
        (EngineError::Numbers("not finite".into()), StatusCode::INTERNAL_SERVER_ERROR, "runner_server_error"),
    ];
    for (error, code, class) in cases {
        let server = Server::start().await;
        let request = server.submit(&small()).await;
        let (engine, control) = stepped_engine();
        let mut worker = server.worker("w", engine).await;
        control.fail(error);
        worker.tick().await.expect("a worker that goes on");
        let status = server.status(&request).await;
        assert_eq!((&status["status"], &status["error_type"]), (&json!("COMPLETED"), &json!(class)));
        let result = server.get(&request).await;
        assert_eq!(result.status, code, "{result:?}");
        if code == StatusCode::UNPROCESSABLE_ENTITY {
            assert_eq!(result.json()["detail"][0]["msg"], "too wide");
            assert_eq!(status["error"], "Invalid status code: 422");
        } else {
            assert_eq!(result.json(), json!({ "detail": "not finite", "error_type": class }));
            assert_eq!(result.header("x-fal-error-type"), class);
        }
        control.take_all_steps();
        let next = server.submit(&small()).await;
        worker.tick().await.expect("a worker that goes on");
        assert_eq!(server.get(&next).await.status, StatusCode::OK);
    }
}
