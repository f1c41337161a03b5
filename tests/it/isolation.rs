//! `--isolate-keys`: what a key is told of another key's requests and files is what it is told of none.

use crate::keys::Keyed;
use crate::support::{Answer, ENDPOINT, Server, id_of, small};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::keys::KeyRing;
use latentd::queue::{Outcome, Scope};
use serde_json::{Value, json};

pub(crate) const IMAGE_TO_IMAGE: &str = "fal-ai/stable-diffusion-v35-large/image-to-image";

const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

/// What a route does with things of keys.
enum Decision {
    /// It is about a request, which must be the key's own.
    Request,
    /// It is about a file, which must be the key's own, if a key is sent.
    File,
    /// What it makes is the caller's.
    Makes,
    /// Its path has a secret that only the owner was told.
    Secret,
    /// It shows numbers, of other keys none.
    Numbers,
    /// It is for administrators alone.
    Admin,
    /// It is the same for every key.
    Same,
}

/// Every route has a decision: a new one is decided here and in `access/isolation.rs`.
fn decision(methods: &str, template: &str) -> Decision {
    match (methods, template) {
        ("GET", "/requests/{request_id}")
        | ("GET", "/requests/{request_id}/response")
        | ("GET", "/requests/{request_id}/status")
        | ("GET", "/requests/{request_id}/status/stream")
        | ("PUT", "/requests/{request_id}/cancel")
        | ("DELETE", "/v1/models/requests/{request_id}/payloads")
        | ("DELETE", "/models/requests/{request_id}/payloads") => Decision::Request,
        ("GET, HEAD", "/files/{file}") => Decision::File,
        ("POST", "/storage/auth/token" | "/storage/upload/initiate" | "/storage/upload/initiate-multipart")
        | ("POST", "/files/upload" | "/files/upload/multipart" | "/tokens/")
        | ("GET" | "POST", "/{application}" | "/{application}/stream")
        | ("GET", "/{application}/realtime" | "/ws/{application}") => Decision::Makes,
        ("POST", "/v1/images/generations" | "/v1/images/edits") => Decision::Makes,
        ("PUT", "/storage/upload/{upload}" | "/storage/upload/{upload}/{part}")
        | ("POST", "/storage/upload/{upload}/complete")
        | ("POST", "/files/{file}/multipart/{upload}/complete")
        | ("PUT", "/files/{file}/multipart/{upload}/{part}") => Decision::Secret,
        ("GET, HEAD", "/metrics") => Decision::Numbers,
        ("GET, HEAD", "/admin/requests" | "/admin/workers" | "/admin/keys" | "/admin/storage")
        | ("DELETE", "/admin/keys/{key_id}")
        | ("POST", "/admin/drain") => Decision::Admin,
        ("GET, HEAD", "/health" | "/health/ready" | "/health/live" | "/v1/models" | "/openapi.json")
        | ("GET, HEAD", "/api/openapi/queue/openapi.json" | "/docs" | "/docs/{name}" | "/" | "/admin")
        | ("GET, HEAD", "/.well-known/jwks.json" | "/playground/{name}")
        | ("GET, HEAD", "/v1/models/{model}" | "/v1/models/{owner}/{model}")
        // The route that its header names decides.
        | ("", "/api/fal/proxy") => Decision::Same,
        other => panic!("what may a key do with the things of another key by {other:?}?"),
    }
}

/// A server with two keys and an administrator's.
pub(crate) async fn start(is_isolated: bool) -> Keyed {
    let mut ring = KeyRing::default();
    let server = Server::with(|api| {
        ring = api.keys.clone();
        api.isolate_keys = is_isolated;
    });
    let keyed = Keyed { server: server.await, ring };
    keyed.add("a", Some(3)).await;
    keyed.add("b", None).await;
    keyed.add_scoped("boss", Scope::Admin).await;
    keyed
}

pub(crate) async fn send(
    server: &Server,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: &Value,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "test:1");
    if let Some(key) = key {
        request = request.header("authorization", format!("Key {key}:secret"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    server.send(request.header("content-type", "application/json").body(body).expect("a request")).await
}

pub(crate) async fn ask(server: &Server, method: &str, path: &str, key: &str) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    send(server, method, path, Some(key), &Value::Null).await
}

async fn submit(server: &Server, key: &str, input: &Value) -> String {
    let headers = [("authorization", format!("Key {key}:secret"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    id_of(&server.submit_with(&headers, input).await).to_owned()
}

/// The path of the image of a request.
async fn image(server: &Server, id: &str, key: &str) -> String {
    let result = ask(server, "GET", &format!("/requests/{id}"), key).await;
    let url = result.json()["images"][0]["url"].as_str().expect("a URL").to_owned();
    url.strip_prefix("http://test:1").expect("our URL").to_owned()
}

/// Uploads a file as a key, with a wish for who may fetch it; its path.
pub(crate) async fn upload(server: &Server, key: &str, acl: &str) -> String {
    let request = Request::post("/files/upload").header("host", "test:1").header("content-type", "image/png");
    let wish = format!(r#"{{"initial_acl": {{"default": "{acl}"}}}}"#);
    let request = request.header("x-fal-object-lifecycle", wish);
    let request = request.header("authorization", format!("Key {key}:secret"));
    let answer = server.send(request.body(Body::from("bytes")).expect("a request")).await;
    let url = answer.json()["access_url"].as_str().expect("a URL").to_owned();
    url.strip_prefix("http://test:1").expect("our URL").to_owned()
}

#[tokio::test]
async fn no_route_tells_a_key_of_the_requests_and_files_of_another() {
    let keyed = start(true).await;
    let server = &keyed.server;
    for (methods, template) in latentd_fal::routes() {
        match decision(methods, template) {
            Decision::Request => {
                let id = submit(server, "a", &small()).await;
                // Deleting is for what is over, cancelling for what is not.
                let is_early = template.ends_with("cancel");
                if !is_early {
                    server.generate_all().await;
                }
                let path = |id: &str| template.replace("{request_id}", id);
                let foreign = ask(server, methods, &path(&id), "b").await;
                let unknown = ask(server, methods, &path(UNKNOWN), "b").await;
                assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{template}: {foreign:?}");
                assert_eq!((foreign.status, &foreign.bytes), (unknown.status, &unknown.bytes), "{template}");
                let under = format!("/queue/{ENDPOINT}{}", path(&id));
                if template.starts_with("/requests") {
                    let foreign = ask(server, methods, &under, "b").await;
                    assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{under}");
                }
                for key in ["a", "boss"] {
                    let own = ask(server, methods, &path(&id), key).await;
                    assert!(own.status != StatusCode::NOT_FOUND || key == "boss", "{template}: {own:?}");
                    assert_ne!(own.status, StatusCode::FORBIDDEN, "{template}: {own:?}");
                }
            }
            Decision::File => {
                let id = submit(server, "a", &small()).await;
                server.generate_all().await;
                for (path, without) in [
                    (image(server, &id, "a").await, StatusCode::OK),
                    (upload(server, "a", "allow").await, StatusCode::OK),
                    (upload(server, "a", "hide").await, StatusCode::NOT_FOUND),
                    (upload(server, "a", "forbid").await, StatusCode::FORBIDDEN),
                ] {
                    for method in ["GET", "HEAD"] {
                        for (key, status) in
                            [("a", StatusCode::OK), ("boss", StatusCode::OK), ("b", StatusCode::NOT_FOUND)]
                        {
                            let answer = ask(server, method, &path, key).await;
                            assert_eq!(answer.status, status, "{method} {path} {key}");
                            assert!(!answer.header("cache-control").starts_with("public"), "{path}");
                        }
                    }
                    assert_eq!(server.get(&path).await.status, without, "a page has no key: {path}");
                }
            }
            Decision::Admin => {
                let (method, path) = (methods.trim_end_matches(", HEAD"), template.replace("{key_id}", "a"));
                assert_eq!(ask(server, method, &path, "b").await.status, StatusCode::FORBIDDEN, "{path}");
            }
            Decision::Makes | Decision::Secret | Decision::Numbers | Decision::Same => {}
        }
    }
}

#[tokio::test]
async fn what_the_proxy_is_sent_is_decided_like_any_call() {
    let keyed = start(true).await;
    let server = &keyed.server;
    let id = submit(server, "a", &small()).await;
    for (key, status) in [("b", StatusCode::NOT_FOUND), ("a", StatusCode::ACCEPTED)] {
        let target = format!("https://queue.fal.run/{ENDPOINT}/requests/{id}/status");
        let request =
            Request::get("/api/fal/proxy").header("host", "test:1").header("x-fal-target-url", target);
        let request = request.header("authorization", format!("Key {key}:secret"));
        let answer = server.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status, status, "{key}: {answer:?}");
    }
}

/// An input that names another key's file ends as one that names none.
#[tokio::test]
async fn an_input_cannot_name_a_file_of_another_key() {
    let keyed = start(true).await;
    let server = &keyed.server;
    let hidden = upload(server, "a", "hide").await;
    let source = async |key: &str, path: &str, [endpoint, field, stored]: [&str; 3]| {
        let mut input = small();
        input.as_object_mut().expect("an object").remove("image_size");
        input["image_url"] = json!("http://example.com/a.png");
        input[field] = json!(format!("http://test:1{path}"));
        let path = format!("/queue/{ENDPOINT}/{endpoint}");
        let answer = send(server, Method::POST, &path, Some(key), &input).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let claim = server.claim("w").await;
        let named =
            claim.body.pointer(stored).expect("a source")["stored"].as_str().expect("a name").to_owned();
        server.queue.give_back(&claim).await.expect("a database");
        server.queue.cancel(claim.id, latentd::queue::FailureKind::Cancelled).await.expect("a database");
        named == path_name(&hidden)
    };
    let fields = [
        ["image-to-image", "image_url", "/begin/source"],
        ["inpaint", "mask_image_url", "/begin/mask/source"],
    ];
    for field in fields {
        assert!(source("a", &hidden, field).await && source("boss", &hidden, field).await, "{field:?}");
        assert!(!source("b", &hidden, field).await, "{field:?}");
    }
}

pub(crate) fn path_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

#[tokio::test]
async fn an_idempotency_key_finds_requests_of_its_own_key_alone() {
    let keyed = start(true).await;
    let server = &keyed.server;
    let sent = async |key: &str| {
        let authorization = format!("Key {key}:secret");
        let headers = [("authorization", authorization.as_str()), ("idempotency-key", "same")];
        id_of(&server.submit_with(&headers, &small()).await).to_owned()
    };
    let (a, b, again) = (sent("a").await, sent("b").await, sent("a").await);
    assert!(a != b && a == again);
}

#[tokio::test]
async fn a_token_of_an_upload_sends_files_of_its_key() {
    let keyed = start(true).await;
    let server = &keyed.server;
    let token = send(server, Method::POST, "/storage/auth/token", Some("a"), &json!({})).await.json();
    let request = Request::post("/files/upload").header("host", "test:1").header("content-type", "image/png");
    let request =
        request.header("authorization", format!("Bearer {}", token["token"].as_str().expect("a token")));
    let answer = server.send(request.body(Body::from("bytes")).expect("a request")).await;
    let url = answer.json()["access_url"].as_str().expect("a URL").to_owned();
    let path = url.strip_prefix("http://test:1").expect("our URL");
    assert_eq!(ask(server, "GET", path, "a").await.status, StatusCode::OK);
    assert_eq!(ask(server, "GET", path, "b").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_key_deletes_its_own_requests_and_no_others() {
    let keyed = start(true).await;
    let server = &keyed.server;
    let (a, b) = (submit(server, "a", &small()).await, submit(server, "b", &small()).await);
    server.generate_all().await;
    let path = |id: &str| format!("/v1/models/requests/{id}/payloads");
    assert_eq!(ask(server, "DELETE", &path(&b), "a").await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask(server, "DELETE", &path(&a), "a").await.status, StatusCode::OK);
    assert_eq!(
        server.queue.outcome(a.parse().expect("an id")).await.expect("a database"),
        Some(Outcome::Erased)
    );
    assert_eq!(ask(server, "GET", &format!("/requests/{b}"), "b").await.status, StatusCode::OK);
    assert_eq!(ask(server, "DELETE", &path(&b), "boss").await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_the_flag_all_keys_are_one_account() {
    let keyed = start(false).await;
    let server = &keyed.server;
    let id = submit(server, "a", &small()).await;
    server.generate_all().await;
    assert_eq!(ask(server, "GET", &format!("/requests/{id}"), "b").await.status, StatusCode::OK);
    let hidden = upload(server, "a", "hide").await;
    assert_eq!(ask(server, "GET", &hidden, "b").await.status, StatusCode::OK);
    let image = image(server, &id, "b").await;
    assert!(server.get(&image).await.header("cache-control").starts_with("public"));
    let path = format!("/v1/models/requests/{id}/payloads");
    assert_eq!(ask(server, "DELETE", &path, "a").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn metrics_count_by_key_and_show_an_isolated_key_its_own_numbers() {
    for is_isolated in [true, false] {
        let keyed = start(is_isolated).await;
        let server = &keyed.server;
        submit(server, "a", &small()).await;
        submit(server, "b", &json!({ "prompt": 5 })).await;
        server.generate_all().await;
        submit(server, "a", &small()).await;
        let claim = server.claim("w").await;
        let metrics = async |key: &str| {
            let answer = ask(server, "GET", "/metrics", key).await;
            assert_eq!(answer.status, StatusCode::OK);
            String::from_utf8(answer.bytes.to_vec()).expect("a text")
        };
        let lines_of_a = [
            r#"latentd_key_requests_total{key="a",outcome="succeeded"} 1"#,
            r#"latentd_key_requests_running{key="a"} 1"#,
            r#"latentd_key_concurrency_limit{key="a"} 3"#,
        ];
        let line_of_b = r#"latentd_key_requests_total{key="b",outcome="invalid"} 1"#;
        for key in ["a", "b", "boss"] {
            let text = metrics(key).await;
            let sees = |of: &str| !is_isolated || key == of || key == "boss";
            assert!(lines_of_a.iter().all(|line| text.contains(line) == sees("a")), "{key}: {text}");
            assert_eq!(text.contains(line_of_b), sees("b"), "{key}: {text}");
            assert!(!text.contains("secret"));
        }
        server.queue.give_back(&claim).await.expect("a database");
    }
}
