//! `loras` over HTTP: where the files of adapters come from, what the engine gets, and what is refused.

use crate::init_image::{data_uri, png};
use crate::isolation;
use crate::support::{Answer, ENDPOINT, Scripted, Server, messages, small, tick_until_idle};
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use latentd::engine::EngineError;
use latentd::worker::Worker;
use latentd_egress::{Client, Egress};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A safetensors file of one number, which makes it another file.
pub(crate) fn file(number: f32) -> Vec<u8> {
    let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header, &number.to_le_bytes()].concat()
}

pub(crate) fn with(loras: Value) -> Value {
    let mut input = small();
    input["loras"] = loras;
    input
}

/// Uploads a file; its URL.
pub(crate) async fn upload(server: &Server, bytes: Vec<u8>, lifetime: Option<u32>) -> String {
    let request = Request::post("/files/upload").header("host", "test:1");
    let request = request.header("content-type", "application/octet-stream");
    let life = lifetime.map(|seconds| json!({ "expiration_duration_seconds": seconds }).to_string());
    let request =
        life.into_iter().fold(request, |request, life| request.header("x-fal-object-lifecycle", life));
    let answer = server.send(request.body(Body::from(bytes)).expect("a request")).await;
    answer.json()["access_url"].as_str().expect("a URL").to_owned()
}

/// What an engine got of a request: the bytes of each adapter's file, its name and its scale.
pub(crate) type Got = Vec<(Vec<u8>, String, f64)>;

/// An engine that reads the files of adapters, and what it got for each request.
pub(crate) fn reading() -> (Scripted, Arc<Mutex<Vec<Got>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let seen = got.clone();
    let engine = Scripted::new(move |call| {
        let read = |path: &PathBuf| std::fs::read(path).expect("an adapter's file");
        let loras = call.loras.iter().map(|lora| (read(&lora.path), lora.name.clone(), lora.scale));
        seen.lock().expect("one engine").push(loras.collect());
        call.grey()
    });
    (engine, got)
}

/// A worker that may call this machine, and what its engine gets.
pub(crate) async fn worker(server: &Server) -> (Worker, Arc<Mutex<Vec<Got>>>) {
    let (engine, got) = reading();
    let mut worker = server.worker("w", engine).await;
    worker.outgoing = Client::new(Egress::new(true), "--fetch-allow");
    (worker, got)
}

/// The result of one request with an adapter at this path.
pub(crate) async fn result(server: &Server, worker: &mut Worker, path: &str) -> Answer {
    let request = server.submit(&with(json!([{ "path": path }]))).await;
    tick_until_idle(worker).await;
    server.get(&request).await
}

/// Class and message of the one thing that is wrong with the path of the first adapter.
pub(crate) fn refusal(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
    let body = answer.json();
    let [problem] = body["detail"].as_array().expect("a list").as_slice() else { panic!("{body}") };
    assert_eq!(problem["loc"], json!(["body", "loras", 0, "path"]), "{body}");
    let text = |name: &str| problem[name].as_str().expect("a text").to_owned();
    (text("type"), text("msg"))
}

#[tokio::test]
async fn uploads_data_uris_and_names_reach_the_engine_with_their_scales() {
    let server = Server::with(|api| api.lora_names = vec!["ink".into(), "night".into()]).await;
    let url = upload(&server, file(1.0), None).await;
    let fals = format!("https://v3.fal.media/files/{}", url.rsplit('/').next().expect("a name"));
    let (mut worker, got) = worker(&server).await;
    let named = server.directory.path().join("night.safetensors");
    std::fs::write(&named, file(3.0)).expect("a file");
    worker.adapters.named.insert("night".into(), named);
    let input = with(json!([
        { "path": url, "scale": 0.25 },
        { "path": data_uri(&file(2.0)) },
        { "path": " night ", "scale": "4" },
        { "path": fals, "scale": 0 },
    ]));
    let request = server.submit(&input).await;
    tick_until_idle(&mut worker).await;
    let result = server.get(&request).await;
    assert_eq!(result.status, StatusCode::OK, "{result:?}");
    let expected: Got = vec![
        (file(1.0), url.clone(), 0.25),
        (file(2.0), "data URI".into(), 1.0),
        (file(3.0), "night".into(), 4.0),
        (file(1.0), fals, 0.0),
    ];
    assert_eq!(got.lock().expect("one engine").as_slice(), [expected]);
    let status = server.status(&request).await;
    assert!(messages(&status).iter().any(|line| line == "fetching the LoRA adapters"), "{status}");
    let metrics = String::from_utf8(server.get("/metrics").await.bytes.to_vec()).expect("text");
    for line in [r#"latentd_adapters_total{from="name"} 1"#, r#"latentd_adapters_total{from="cache"} 1"#] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn no_adapters_are_no_field() {
    let server = Server::start().await;
    for none in [json!([]), Value::Null] {
        server.submit(&with(none)).await;
        let claim = server.claim("w").await;
        assert_eq!(claim.body.get("loras"), None);
        server.queue.give_back(&claim).await.expect("a database");
        server.queue.cancel(claim.id, latentd::queue::FailureKind::Cancelled).await.expect("a database");
    }
}

#[tokio::test]
async fn what_is_no_adapter_is_refused_by_its_place() {
    let server = Server::with(|api| api.lora_names = vec!["ink".into()]).await;
    let many = vec![json!({ "path": "ink" }); 33];
    for (loras, loc, class, words) in [
        (json!("ink"), json!(["loras"]), "list_type", "valid list"),
        (json!({ "path": "ink" }), json!(["loras"]), "list_type", "valid list"),
        (json!(many), json!(["loras"]), "sequence_too_long", "at most 32 items"),
        (json!(["ink"]), json!(["loras", 0]), "model_attributes_type", "dictionary"),
        (json!([{ "scale": 1 }]), json!(["loras", 0, "path"]), "missing", "required"),
        (json!([{ "path": 5 }]), json!(["loras", 0, "path"]), "string_type", "string"),
        (
            json!([{ "path": "ink" }, { "path": "ink", "scale": 4.1 }]),
            json!(["loras", 1, "scale"]),
            "less_than_equal",
            "less than or equal to 4",
        ),
        (json!([{ "path": "ink", "scale": -1 }]), json!(["loras", 0, "scale"]), "greater_than_equal", "0"),
        (json!([{ "path": "/etc/passwd" }]), json!(["loras", 0, "path"]), "value_error", "adapters: ink"),
        (json!([{ "path": "../a/b" }]), json!(["loras", 0, "path"]), "value_error", "give an http://"),
        (
            json!([{ "path": "file:///etc/passwd" }]),
            json!(["loras", 0, "path"]),
            "value_error",
            "give an http://",
        ),
        (json!([{ "path": "" }]), json!(["loras", 0, "path"]), "value_error", "give an http://"),
        (json!([{ "path": "me/a/b.bin" }]), json!(["loras", 0, "path"]), "value_error", "file.safetensors"),
        (
            json!([{ "path": "http://test:1/files/nothing" }]),
            json!(["loras", 0, "path"]),
            "file_download_error",
            "no file of this server",
        ),
        (
            json!([{ "path": "data:;base64,???" }]),
            json!(["loras", 0, "path"]),
            "file_download_error",
            "not base64",
        ),
    ] {
        let answer = server.call(Method::POST, &format!("/run/{ENDPOINT}"), &with(loras.clone())).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{loras}: {answer:?}");
        let body = answer.json();
        let [problem] = body["detail"].as_array().expect("a list").as_slice() else { panic!("{body}") };
        let path = loc.as_array().expect("a list").iter().cloned();
        let loc: Vec<Value> = [json!("body")].into_iter().chain(path).collect();
        assert_eq!((&problem["loc"], &problem["type"]), (&json!(loc), &json!(class)), "{loras}: {problem}");
        let text = problem["msg"].as_str().expect("a text");
        assert!(text.contains(words) && problem.to_string().len() < 2000, "{problem}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_had_or_used_is_a_422_that_names_it() {
    let server = Server::with(|api| api.lora_names = vec!["ink".into()]).await;
    let (mut worker, got) = worker(&server).await;
    let huge = [&(50_u64 << 30).to_le_bytes()[..], b"{\"a\":"].concat();
    let large = [&file(1.0)[..], &[0; 1_000_000]].concat();
    let gone = upload(&server, file(1.0), Some(60)).await;
    server.clock.advance(61);
    let missing = "http://test:1/files/0123456789abcdef0123456789abcdef.bin";
    for (path, class, words) in [
        (gone.as_str(), "file_download_error", "not any longer"),
        (missing, "file_download_error", "has no such file"),
        ("me/a", "file_download_error", "--offline"),
        (
            &data_uri(&huge),
            "value_error",
            "the LoRA data URI: it is no whole safetensors file, its header claims 53687091200",
        ),
        (&data_uri(&[0x80, 2, 0x7d]), "value_error", "the LoRA data URI: it is a pickle"),
        (&data_uri(b"<!DOCTYPE html>"), "value_error", "it is a web page"),
        (&data_uri(&[]), "value_error", "too short"),
        (&data_uri(&png(8, 8, 1)), "value_error", "no whole safetensors file"),
        (&data_uri(&large), "file_too_large", "--max-adapter"),
    ] {
        let answer = result(&server, &mut worker, path).await;
        let (found, text) = refusal(&answer);
        assert_eq!(found, class, "{text}");
        let data_dir = server.directory.path().to_str().expect("a path");
        assert!(text.contains(words) && !text.contains(data_dir), "{words}: {text}");
        if found == "file_too_large" {
            assert_eq!(answer.json()["detail"][0]["ctx"], json!({ "max_size": 1_000_000 }));
        }
    }
    assert_eq!(got.lock().expect("one engine").len(), 0, "the engine was not asked");
    let left = std::fs::read_dir(server.directory.path().join("cache/adapters/partial")).expect("a folder");
    assert_eq!(left.count(), 0, "nothing is left of what was refused");
    let answer = result(&server, &mut worker, "ink").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        answer.json()["detail"].as_str().is_some_and(|text| text.contains("--lora ink=PATH")),
        "{answer:?}"
    );
}

/// What the model finds wrong is said of the adapter, and gone when the input is erased.
#[tokio::test]
async fn what_the_engine_refuses_is_said_of_the_adapter_and_erased_with_the_input() {
    let server = Server::start().await;
    let url = upload(&server, file(1.0), None).await;
    let refusing = || {
        Scripted::new(|call| {
            let message = format!("the LoRA {}: it is DoRA", call.loras[0].name);
            Err(EngineError::Adapter { index: Some(0), message })
        })
    };
    let mut worker = server.worker("w", refusing()).await;
    let request = server.submit(&with(json!([{ "path": url }]))).await;
    tick_until_idle(&mut worker).await;
    let (class, text) = refusal(&server.get(&request).await);
    assert_eq!((class.as_str(), text), ("value_error", format!("the LoRA {url}: it is DoRA")));
    assert_eq!(server.status(&request).await["status"], "COMPLETED");
    let private = server.submit_with(&[("x-fal-store-io", "0")], &with(json!([{ "path": url }]))).await;
    tick_until_idle(&mut worker).await;
    assert_eq!(server.get(&private).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    server.clock.advance(3601);
    server.queue.erase_ended().await.expect("a database");
    let path = format!("/v1/models/requests/{}/payloads", crate::support::id_of(&request));
    assert_eq!(server.call(Method::DELETE, &path, &Value::Null).await.status, StatusCode::OK);
    let kept = server.finds("SELECT 1 FROM requests WHERE failure_detail LIKE '%DoRA%' OR failure_message LIKE '%DoRA%' OR body LIKE '%loras%'");
    assert!(!kept.await, "erased");
}

#[tokio::test]
async fn a_get_has_its_adapters_in_the_query() {
    let server = Server::with(|api| api.lora_names = vec!["ink".into()]).await;
    let query = "prompt=x&loras=%5B%7B%22path%22%3A%22nothing%22%7D%5D";
    let answer = server.get(&format!("/run/{ENDPOINT}?{query}")).await;
    assert_eq!(refusal(&answer).0, "value_error");
    let answer = server.get(&format!("/run/{ENDPOINT}?prompt=x&loras=ink")).await;
    assert_eq!(answer.json()["detail"][0]["type"], "list_type");
}

/// An input that names another key's file ends as one that names none.
#[tokio::test]
async fn an_adapter_cannot_be_a_file_of_another_key() {
    let keyed = isolation::start(true).await;
    let server = &keyed.server;
    let hidden = isolation::upload(server, "a", "allow").await;
    let names_it = async |key: &str| {
        let input = with(json!([{ "path": format!("http://test:1{hidden}") }]));
        let answer =
            isolation::send(server, Method::POST, &format!("/queue/{ENDPOINT}"), Some(key), &input).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let claim = server.claim("w").await;
        let named = claim.body["loras"][0]["source"]["file"]["stored"].as_str().expect("a name").to_owned();
        server.queue.give_back(&claim).await.expect("a database");
        server.queue.cancel(claim.id, latentd::queue::FailureKind::Cancelled).await.expect("a database");
        named == isolation::path_name(&hidden)
    };
    assert!(names_it("a").await && names_it("boss").await);
    assert!(!names_it("b").await);
}
