//! fal.run: the result in the answer, and what happens when the client hangs up.

use crate::support::{Answer, ENDPOINT, Server, small};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn run_answers_with_the_output() {
    let server = Server::start().await;
    let input = small();
    for path in [format!("/run/{ENDPOINT}"), format!("/{ENDPOINT}"), format!("/{ENDPOINT}/turbo/")] {
        let answer = async {
            server.until_one_waits().await;
            server.generate_all().await;
        };
        let (answer, ()) = tokio::join!(server.call(Method::POST, &path, &input), answer);
        assert_eq!(answer.status, StatusCode::OK, "{path} {answer:?}");
        assert_eq!(answer.header("x-fal-request-id").len(), 36);
        assert_eq!(answer.json()["seed"], 7);
    }
}

/// Answers a GET run while somebody generates.
async fn get_generated(server: &Server, path: &str) -> Answer {
    let generating = async {
        server.until_one_waits().await;
        server.generate_all().await;
    };
    tokio::join!(server.get(path), generating).0
}

#[tokio::test]
async fn a_get_has_its_input_in_the_query() {
    let server = Server::start().await;
    let query = "prompt=a+%22fox%22+%26+more&num_inference_steps=3&seed=9&guidance_scale=2.5&sync_mode=true\
                 &output_format=png&num_images=2&enable_safety_checker=false&loras=&no_such_field=1";
    let size = "image_size=%7B%22width%22%3A32%2C%22height%22%3A16%7D";
    let answer = get_generated(&server, &format!("/run/{ENDPOINT}/?{query}&{size}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let body = answer.json();
    assert_eq!((&body["prompt"], &body["seed"]), (&json!("a \"fox\" & more"), &json!(9)));
    let images = body["images"].as_array().expect("a list");
    assert_eq!((images.len(), &images[1]["width"], &images[1]["height"]), (2, &json!(32), &json!(16)));
    assert!(images[0]["url"].as_str().is_some_and(|url| url.starts_with("data:image/png;base64,")));
    let answer = get_generated(&server, &format!("/{ENDPOINT}?prompt=x&image_size=square&seed=1")).await;
    assert_eq!(answer.json()["images"][0]["width"], 512);
}

#[tokio::test]
async fn a_get_is_refused_as_a_post_is_and_never_reaches_the_queue() {
    let server = Server::start().await;
    let cases = [
        ("", "prompt", "missing"),
        ("prompt=x&num_inference_steps=many", "num_inference_steps", "int_parsing"),
        ("prompt=x&num_inference_steps=51", "num_inference_steps", "less_than_equal"),
        ("prompt=x&image_size=%5Bobject+Object%5D", "image_size", "one_of"),
        ("prompt=x&ip_adapter=%5B7%5D", "ip_adapter", "model_attributes_type"),
    ];
    for (query, field, kind) in cases {
        for path in ["", "/stream"] {
            let answer = server.get(&format!("/{ENDPOINT}{path}?{query}&fal_jwt_token=secret")).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{query} {answer:?}");
            let item = &answer.json()["detail"][0];
            assert_eq!((&item["loc"], &item["type"]), (&json!(["body", field]), &json!(kind)), "{query}");
            assert!(!item.to_string().contains("secret"), "{item}");
        }
    }
    let queued = server.get(&format!("/queue/{ENDPOINT}?prompt=x")).await;
    assert_eq!((queued.status, queued.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let head = server.call(Method::HEAD, &format!("/{ENDPOINT}?prompt=x"), &Value::Null).await;
    assert_eq!(head.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(server.waiting().await, 0);
}

#[tokio::test]
async fn a_refused_input_is_answered_at_once() {
    let server = Server::start().await;
    let answer = server.call(Method::POST, &format!("/{ENDPOINT}"), &json!({})).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.json()["detail"][0]["type"], "missing");
    assert_eq!(server.waiting().await, 0);
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_its_request() {
    let server = Server::start().await;
    let router = server.router.clone();
    let call = tokio::spawn(async move {
        let request = axum::http::Request::post(format!("/{ENDPOINT}")).header("host", "test");
        let body = axum::body::Body::from(small().to_string());
        tower::ServiceExt::oneshot(router, request.body(body).expect("a request")).await
    });
    server.until_one_waits().await;
    let run = server.run_stepped("w").await;
    run.step().await;
    call.abort();
    tokio::time::sleep(Duration::from_millis(100)).await;
    run.control.allow_step();
    run.control.allow_step();
    run.done().await;
    assert_eq!(server.files(), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_accepted_while_the_server_stops() {
    let server = Server::start().await;
    let request = server.submit(&small()).await;
    server.closing.send_replace(true);
    for path in [format!("/{ENDPOINT}"), format!("/queue/{ENDPOINT}")] {
        let answer = server.call(Method::POST, &path, &small()).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
    }
    assert_eq!(server.get("/health/ready").await.json()["status"], "stopping");
    assert_eq!(server.status(&request).await["status"], json!("IN_QUEUE"));
    assert_eq!(
        server.call(Method::PUT, &format!("{request}/cancel"), &Value::Null).await.status,
        StatusCode::OK
    );
}
