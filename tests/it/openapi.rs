//! The documents: true to what is served, to fal's own document, and open to everybody.

use crate::support::{ENDPOINT, Server, endpoints, small};
use axum::http::{Method, StatusCode};
use latentd::keys::KeyHash;
use latentd::keys::KeyRing;
use serde_json::{Value, json};

async fn document(server: &Server) -> Value {
    let answer = server.get("/openapi.json").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn documents_and_page_need_no_key() {
    let server = Server::with_key("id:secret").await;
    for path in ["/openapi.json", &format!("/openapi.json?endpoint_id={ENDPOINT}"), "/docs", "/docs/start.js"]
    {
        assert_eq!(server.get(path).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(server.get("/docs/nothing.js").await.status, StatusCode::UNAUTHORIZED);
}

/// Fills a path with values that fit its parameters.
fn filled(path: &str) -> String {
    path.replace("{request_id}", "0190c1a0-0000-7000-8000-000000000000")
        .replace("{upload}", "0190c1a0000070008000000000000000")
        .replace("{part}", "1")
        .replace("{key_id}", "a")
        .replace("{model}", "stable-diffusion-3.5-large")
        .replace("{file}", "0190c1a0000070008000000000000000.png")
}

#[tokio::test]
async fn every_call_of_the_document_is_served_and_answers_what_it_says() {
    let server = Server::start().await;
    for (path, calls) in document(&server).await["paths"].as_object().expect("paths") {
        for (method, operation) in calls.as_object().expect("calls") {
            if method == "post" && operation["tags"][0] == "run" {
                // Wait for a worker; their answers are tested where they are generated.
                continue;
            }
            let body = if method == "get" { Value::Null } else { json!({}) };
            let named: Method = method.to_uppercase().parse().expect("a method");
            let answer = server.call(named, &filled(path), &body).await;
            let said = &operation["responses"][answer.status.as_str()];
            assert!(said.is_object(), "{method} {path}: {answer:?}");
            let unknown = answer.bytes.starts_with(br#"{"detail":"Path "#) && !path.contains("{upload}");
            assert!(!unknown || path.contains("{file}"), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn the_limits_of_the_document_are_those_of_the_server() {
    let server = Server::with(|api| api.validate_on_submit = true).await;
    let document = document(&server).await;
    let schemas = &document["components"]["schemas"];
    let input = &schemas["StableDiffusionV35LargeInput"]["properties"];
    let mut seen = 0;
    for (field, schema) in input.as_object().expect("properties") {
        let (fit, unfit) = samples(schema);
        for (value, expected) in
            with(fit, StatusCode::OK).chain(with(unfit, StatusCode::UNPROCESSABLE_ENTITY))
        {
            check(&server, field, value, expected).await;
            seen += 1;
        }
    }
    for (side, schema) in schemas["ImageSize"]["properties"].as_object().expect("sides") {
        let (fit, unfit) = samples(schema);
        for (value, expected) in
            with(fit, StatusCode::OK).chain(with(unfit, StatusCode::UNPROCESSABLE_ENTITY))
        {
            check(&server, "image_size", json!({ side: value }), expected).await;
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} samples");
}

fn with(values: Vec<Value>, expected: StatusCode) -> impl Iterator<Item = (Value, StatusCode)> {
    values.into_iter().map(move |value| (value, expected))
}

async fn check(server: &Server, field: &str, value: Value, expected: StatusCode) {
    let mut input = small();
    input[field] = value;
    let answer = server.call(Method::POST, &format!("/queue/{ENDPOINT}"), &input).await;
    assert_eq!(answer.status, expected, "{field}: {:.80}", input[field].to_string());
}

/// Values that a schema just allows, and values that it just does not.
fn samples(schema: &Value) -> (Vec<Value>, Vec<Value>) {
    if let Some(choices) = schema["anyOf"].as_array() {
        let fit = choices.iter().flat_map(|choice| samples(choice).0).collect();
        return (fit, vec![json!("nonsense"), json!([])]);
    }
    if let Some(words) = schema["enum"].as_array() {
        return (words.clone(), vec![json!("nonsense"), Value::Null]);
    }
    match schema["type"].as_str() {
        Some("string") => {
            let most = usize::try_from(schema["maxLength"].as_u64().expect("a limit")).expect("a length");
            let long = |length: usize| json!("ü".repeat(length));
            (vec![long(0), long(most)], vec![long(most + 1), json!(5), Value::Null])
        }
        Some("boolean") => (vec![json!(true), json!(false)], vec![json!("perhaps"), Value::Null]),
        Some("null") => (vec![Value::Null], vec![]),
        Some("number") => {
            let (low, high) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            let (low, high) = (low.expect("a limit"), high.expect("a limit"));
            (vec![json!(low), json!(high)], vec![json!(low - 0.1), json!(high + 0.1), Value::Null])
        }
        Some("integer") => {
            let integer = |name: &str| schema[name].as_number().and_then(serde_json::Number::as_i128);
            let above = integer("exclusiveMinimum").map(|below| below + 1);
            let low = above.or(integer("minimum")).expect("a limit");
            let high = integer("maximum").expect("a limit");
            let written = |number: i128| serde_json::from_str(&number.to_string()).expect("a number");
            let unfit = vec![written(low - 1), written(high + 1), json!(1.5)];
            (vec![written(low), written(high)], unfit)
        }
        // A reference: its own properties are looked at.
        _ => (vec![], vec![]),
    }
}

#[tokio::test]
async fn presets_that_the_model_cannot_generate_are_not_offered() {
    let server = Server::with(|api| api.endpoints = endpoints(512)).await;
    let document = document(&server).await;
    let input = &document["components"]["schemas"]["StableDiffusionV35LargeInput"]["properties"];
    assert_eq!(input["image_size"]["anyOf"][1]["enum"], json!(["square"]));
    assert_eq!(document["components"]["schemas"]["ImageSize"]["properties"]["width"]["maximum"], 512);
}

#[tokio::test]
async fn endpoints_that_are_not_served_have_no_document() {
    let server = Server::start().await;
    for id in ["", "x", "fal-ai/flux", &format!("{ENDPOINT}/turbine")] {
        let answer = server.get(&format!("/openapi.json?endpoint_id={id}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id:?} {answer:?}");
    }
    let turbo = server.get(&format!("/api/openapi/queue/openapi.json?endpoint_id={ENDPOINT}/turbo")).await;
    assert!(turbo.json()["paths"][format!("/{ENDPOINT}/turbo")].is_object(), "{turbo:?}");
}

#[tokio::test]
async fn the_page_names_no_other_host() {
    let server =
        Server::with(|api| api.public_url = Some("https://gpu.example/sd/".parse().expect("a URL"))).await;
    let page = server.get("/docs").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let html = String::from_utf8(page.bytes.to_vec()).expect("text");
    assert!(!html.contains("//"), "no host at all: {html}");
    assert!(html.contains("\"/sd/docs/start.js\"") && html.contains("\"/sd/openapi.json\""), "{html}");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(policy.contains("script-src 'self';"), "{policy}");
    assert!(policy.contains("connect-src 'self' https://gpu.example/sd;"), "{policy}");
}

#[tokio::test]
async fn files_of_the_page_come_packed_to_those_who_unpack() {
    let server = Server::with(|api| api.keys = KeyRing::new(vec![KeyHash::of("id:secret")])).await;
    let plain = server.get("/docs/swagger-ui-bundle.js").await;
    assert_eq!(plain.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(plain.header("content-encoding"), "");
    assert!(plain.bytes.starts_with(b"/*! For license information"), "the script itself");
    let request = axum::http::Request::get("/docs/swagger-ui-bundle.js").header("host", "test:1");
    let request = request.header("accept-encoding", "gzip, br").body(axum::body::Body::empty());
    let packed = server.send(request.expect("a request")).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.bytes.len() * 2 < plain.bytes.len());
    for licence in ["LICENSE", "NOTICE"] {
        assert!(
            !server.get(&format!("/docs/{licence}")).await.bytes.is_empty(),
            "Swagger UI's own {licence}"
        );
    }
}
