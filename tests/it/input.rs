//! What is refused, in the shape clients read, on each of the three ways a refusal travels.

use crate::support::{ENDPOINT, Server, endpoints, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Value, json};

/// The items of a refusal by `run`.
async fn refusal(server: &Server, input: &Value) -> Vec<Value> {
    let answer = server.call(Method::POST, &format!("/run/{ENDPOINT}"), input).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{input} {answer:?}");
    answer.json()["detail"].as_array().expect("a list").clone()
}

fn with(field: &str, value: Value) -> Value {
    let mut input = small();
    input[field] = value;
    input
}

#[tokio::test]
async fn an_item_says_where_what_and_why() {
    let server = Server::start().await;
    let items = refusal(&server, &with("num_inference_steps", json!(51))).await;
    let expected = json!([{
        "loc": ["body", "num_inference_steps"],
        "msg": "Input should be less than or equal to 50",
        "type": "less_than_equal",
        "url": "https://docs.fal.ai/errors/#less_than_equal",
        "ctx": { "le": 50 },
        "input": 51,
    }]);
    assert_eq!(Value::from(items), expected);
}

#[tokio::test]
async fn every_field_has_its_limits() {
    let server = Server::start().await;
    let cases = [
        ("prompt", json!(5), "string_type"),
        ("prompt", json!(null), "string_type"),
        ("prompt", json!("x".repeat(60_000)), "sequence_too_long"),
        ("negative_prompt", json!(["x"]), "string_type"),
        ("num_inference_steps", json!(0), "greater_than_equal"),
        ("num_inference_steps", json!(2.5), "int_from_float"),
        ("num_inference_steps", json!("many"), "int_parsing"),
        ("num_inference_steps", json!(null), "int_type"),
        ("num_inference_steps", json!(1e30), "less_than_equal"),
        ("seed", json!("99999999999999999999"), "less_than_equal"),
        ("seed", json!(1e17), "int_from_float"),
        ("guidance_scale", json!(20.1), "less_than_equal"),
        ("guidance_scale", json!(-0.1), "greater_than_equal"),
        ("guidance_scale", json!("nan"), "finite_number"),
        ("guidance_scale", json!({}), "float_type"),
        ("num_images", json!(5), "less_than_equal"),
        ("image_offset", json!(4), "less_than_equal"),
        ("image_offset", json!(-1), "greater_than_equal"),
        ("sync_mode", json!("perhaps"), "bool_parsing"),
        ("enable_safety_checker", json!([]), "bool_type"),
        ("enable_safety_checks", json!(7), "bool_parsing"),
        ("output_format", json!("webp"), "one_of"),
        ("image_size", json!("portrait_3_4"), "one_of"),
        ("image_size", json!(512), "value_error"),
        ("ip_adapter", json!("x"), "model_attributes_type"),
        ("controlnet", json!("x"), "model_attributes_type"),
    ];
    for (field, value, kind) in cases {
        let items = refusal(&server, &with(field, value.clone())).await;
        assert_eq!(items.len(), 1, "{items:?}");
        let shown: String = value.to_string().chars().take(40).collect();
        assert_eq!((&items[0]["loc"], &items[0]["type"]), (&json!(["body", field]), &json!(kind)), "{shown}");
        assert!(items[0].to_string().len() < 2000, "an error does not repeat a huge input");
    }
}

/// The seed of a run whose input is written so, or the class of its refusal.
async fn seed_of(server: &Server, seed: &str) -> String {
    let input = format!(
        r#"{{"prompt":"x","num_inference_steps":1,"image_size":{{"width":8,"height":8}},"seed":{seed}}}"#
    );
    let request = Request::post(format!("/queue/{ENDPOINT}")).body(Body::from(input)).expect("a request");
    let url = server.send(request).await.json()["response_url"].as_str().expect("a URL").to_owned();
    let path = url.strip_prefix("http://test:1").expect("a URL of the server");
    server.generate_all().await;
    let result = server.get(path).await;
    match result.status {
        StatusCode::OK => result.json()["seed"].to_string(),
        _ => result.json()["detail"][0]["type"].as_str().expect("a class").to_owned(),
    }
}

/// torch takes seeds from -2^63 to 2^64 - 1. Whatever is taken is the number that was sent, to the digit.
#[tokio::test]
async fn a_seed_is_the_number_that_was_sent_or_refused() {
    let server = Server::start().await;
    for seed in [
        "0",
        "-1",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "-9223372036854775808",
    ] {
        assert_eq!(seed_of(&server, seed).await, seed);
        assert_eq!(seed_of(&server, &format!("\"{seed}\"")).await, seed, "as a text");
    }
    for (sent, seed) in
        [("5.0", "5"), ("\" +5.00 \"", "5"), ("\"9007199254740993.0\"", "9007199254740993"), ("1e3", "1000")]
    {
        assert_eq!(seed_of(&server, sent).await, seed, "{sent}");
    }
    for (sent, class) in [
        ("18446744073709551616", "less_than_equal"),
        ("-9223372036854775809", "greater_than_equal"),
        ("\"-9223372036854775809\"", "greater_than_equal"),
        ("123456789012345678901234567890", "less_than_equal"),
        ("\"999999999999999999999999999999999999999999\"", "less_than_equal"),
        // Numbers that were rounded when they were read.
        ("9007199254740993.0", "int_from_float"),
        ("9007199254740993.5", "int_from_float"),
        ("\"9007199254740993.5\"", "int_parsing"),
    ] {
        assert_eq!(seed_of(&server, sent).await, class, "{sent}");
    }
}

/// As Windows PowerShell and .NET write it, and as Python reads it.
#[tokio::test]
async fn json_may_begin_with_a_byte_order_mark() {
    let server = Server::start().await;
    let marked = |body: &str| Body::from([b"\xef\xbb\xbf", body.as_bytes()].concat());
    for (path, body) in [
        (format!("/queue/{ENDPOINT}"), small().to_string()),
        ("/tokens/".to_owned(), json!({ "allowed_apps": ["stable-diffusion-v35-large"] }).to_string()),
        ("/storage/upload/initiate".to_owned(), json!({ "file_name": "a.png" }).to_string()),
        ("/storage/upload/initiate".to_owned(), String::new()),
    ] {
        let request = Request::post(&path).body(marked(&body)).expect("a request");
        let answer = server.send(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {body} {answer:?}");
    }
}

#[tokio::test]
async fn sides_are_checked_against_fal_and_then_the_model() {
    let server = Server::start().await;
    let cases = [
        (json!(0), "greater_than", json!({ "gt": 0 })),
        (json!(14_143), "less_than_equal", json!({ "le": 14_142 })),
        (json!(1552), "less_than_equal", json!({ "le": 1536 })),
        (json!("wide"), "int_parsing", Value::Null),
    ];
    for (width, kind, ctx) in cases {
        let items = refusal(&server, &with("image_size", json!({ "width": width }))).await;
        assert_eq!(items[0]["loc"], json!(["body", "image_size", "width"]), "{items:?}");
        assert_eq!((&items[0]["type"], &items[0]["ctx"]), (&json!(kind), &ctx));
    }
    let small_model = Server::with(|api| api.endpoints = endpoints(512)).await;
    for size in [json!("square_hd"), Value::Null] {
        let items = refusal(&small_model, &with("image_size", size)).await;
        assert_eq!(
            (&items[0]["loc"], &items[0]["ctx"]),
            (&json!(["body", "image_size"]), &json!({ "le": 512 }))
        );
    }
}

#[tokio::test]
async fn one_answer_names_every_problem() {
    let server = Server::start().await;
    let input = json!({ "num_images": 9, "seed": "x", "image_size": { "width": 0, "height": -1 } });
    let mut fields: Vec<String> = refusal(&server, &input)
        .await
        .iter()
        .map(|item| item["loc"].as_array().and_then(|loc| loc.last()).expect("a field").to_string())
        .collect();
    fields.sort();
    assert_eq!(fields, ["\"height\"", "\"num_images\"", "\"prompt\"", "\"seed\"", "\"width\""]);
}

#[tokio::test]
async fn what_pydantic_would_read_is_read() {
    let server = Server::start().await;
    let lenient = json!({
        "prompt": "", "num_inference_steps": "2", "guidance_scale": "3", "num_images": 1.0, "seed": "-5",
        "sync_mode": "off", "enable_safety_checker": 0, "image_size": { "height": "512" }, "loras": [],
        "ip_adapter": null, "controlnet": {}, "output_format": "png", "no_such_field": { "deep": [1] },
    });
    let request = server.submit(&lenient).await;
    server.generate_all().await;
    let result = server.get(&request).await;
    assert_eq!(result.status, StatusCode::OK, "{result:?}");
    let body = result.json();
    assert_eq!(body["seed"], -5);
    assert_eq!(body["images"][0]["width"], 512);
    assert_eq!(body["images"][0]["content_type"], "image/png");
}

#[tokio::test]
async fn the_queue_accepts_and_fails_later_unless_it_validates_on_submit() {
    let server = Server::start().await;
    let request = server.submit(&json!({})).await;
    let status = server.get(&format!("{request}/status")).await;
    assert_eq!(status.status, StatusCode::OK);
    assert_eq!(status.json()["status"], "COMPLETED");
    assert_eq!(status.json()["error"], "Invalid status code: 422");
    let result = server.get(&request).await;
    assert_eq!(result.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(result.json()["detail"][0]["loc"], json!(["body", "prompt"]));
    assert!(request.ends_with(result.header("x-fal-request-id")));

    let strict = Server::with(|api| api.validate_on_submit = true).await;
    let answer = strict.call(Method::POST, &format!("/queue/{ENDPOINT}"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn bodies_that_are_not_an_object_are_answered_clearly() {
    let server = Server::start().await;
    let deep = "[".repeat(100_000);
    let cases = [
        ("", "missing"),
        ("  ", "missing"),
        ("[1]", "model_attributes_type"),
        ("null", "model_attributes_type"),
        ("{\"prompt\"", "json_invalid"),
        ("{\"prompt\":\"x\",\"seed\":1e999}", "json_invalid"),
        ("{\"guidance_scale\": NaN}", "json_invalid"),
        (deep.as_str(), "json_invalid"),
    ];
    for (body, kind) in cases {
        let answer = raw(&server, body.to_owned().into_bytes()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.json()["detail"][0]["type"], kind, "{}", &body[..body.len().min(30)]);
    }
    let invalid_utf8 = raw(&server, b"{\"prompt\":\"\xff\"}".to_vec()).await;
    assert_eq!(invalid_utf8.json()["detail"][0]["type"], "json_invalid");
}

#[tokio::test]
async fn huge_bodies_are_refused_and_nothing_is_lost() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    let prompt = json!({ "prompt": "x".repeat(1_000_000) }).to_string();
    let answer = raw(&server, prompt.into_bytes()).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json()["detail"][0]["type"], "sequence_too_long");
    let answer = raw(&server, vec![b' '; 17 * 1024 * 1024]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(answer.json()["detail"].as_str().is_some_and(|text| text.contains("16644647")));
    server.generate_all().await;
    assert_eq!(server.get(&request).await.status, StatusCode::OK);
}

async fn raw(server: &Server, body: Vec<u8>) -> crate::support::Answer {
    let request = Request::post(format!("/run/{ENDPOINT}")).header("host", "me");
    let request = request.header("content-type", "application/json").body(Body::from(body));
    server.send(request.expect("a request")).await
}
