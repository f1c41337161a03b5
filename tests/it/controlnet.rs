//! `controlnet` over HTTP: where its files come from, what the engine gets, and what is refused.

use crate::hub::stand_in::{File, Repository, StandIn};
use crate::init_image::{data_uri, png};
use crate::lifecycle::file_of;
use crate::lora_cache::hub;
use crate::loras::{file, upload};
use crate::metadata::text_of;
use crate::support::{Answer, ENDPOINT, Scripted, Server, messages, small, tick_until_idle};
use axum::http::StatusCode;
use latentd::engine::EngineError;
use latentd::worker::Worker;
use latentd_egress::{Client, Egress};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// What an engine got: the bytes of the file, whether there is a config, the control image's size, and name, scale, start and
/// end; and the size of the generated image.
type Got = (Vec<u8>, bool, (usize, usize), (String, f64, f64, f64), (usize, usize));

fn with(controlnet: Value) -> Value {
    let mut input = small();
    input["controlnet"] = controlnet;
    input
}

async fn worker(server: &Server) -> (Worker, Arc<Mutex<Vec<Got>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let seen = got.clone();
    let engine = Scripted::new(move |call| {
        let net = call.controlnet.as_ref().expect("a ControlNet");
        let bytes = std::fs::read(&net.path).expect("its file");
        let image = (net.image.width, net.image.height);
        let settings = (net.name.clone(), net.scale, net.start, net.end);
        let size = (call.request.width, call.request.height);
        seen.lock().expect("one engine").push((bytes, net.config.is_some(), image, settings, size));
        call.grey()
    });
    let mut worker = server.worker("w", engine).await;
    worker.outgoing = Client::new(Egress::new(true), "--fetch-allow");
    (worker, got)
}

async fn result(server: &Server, worker: &mut Worker, input: &Value) -> Answer {
    let request = server.submit(input).await;
    tick_until_idle(worker).await;
    server.get(&request).await
}

#[tokio::test]
async fn file_image_and_settings_reach_the_engine() {
    let server = Server::start().await;
    let url = upload(&server, file(1.0), None).await;
    let (mut worker, got) = worker(&server).await;
    let picture = data_uri(&png(40, 24, 9));
    let input = with(json!({
        "path": url, "control_image_url": picture, "conditioning_scale": "0.5", "start_percentage": 0.25,
        "end_percentage": 0.75
    }));
    let size = (input["image_size"]["width"].clone(), input["image_size"]["height"].clone());
    let request = server.submit(&input).await;
    tick_until_idle(&mut worker).await;
    assert_eq!(server.get(&request).await.status, StatusCode::OK);
    let status = server.status(&request).await;
    assert!(messages(&status).iter().any(|line| line == "fetching the ControlNet"), "{status}");

    // Without a size the control image says it.
    let mut unsized_input = with(json!({ "path": data_uri(&file(2.0)), "control_image_url": picture }));
    unsized_input.as_object_mut().expect("an object").remove("image_size");
    assert_eq!(result(&server, &mut worker, &unsized_input).await.status, StatusCode::OK);
    let got = got.lock().expect("one engine");
    let side = |value: &Value| value.as_u64().expect("pixels") as usize;
    assert_eq!(
        got.as_slice(),
        [
            (file(1.0), false, (40, 24), (url, 0.5, 0.25, 0.75), (side(&size.0), side(&size.1))),
            (file(2.0), false, (40, 24), ("data URI".into(), 1.0, 0.0, 1.0), (40, 24)),
        ]
    );
}

#[tokio::test]
async fn what_is_no_controlnet_is_refused_by_its_place() {
    let server = Server::start().await;
    let picture = data_uri(&png(8, 8, 9));
    let net = |name: &str, value: Value| {
        let mut net = json!({ "path": "me/net", "control_image_url": picture });
        net[name] = value;
        net
    };
    for (controlnet, loc, class) in [
        (json!("x"), json!(["controlnet"]), "model_attributes_type"),
        (json!({ "path": "me/net" }), json!(["controlnet", "control_image_url"]), "missing"),
        (json!({ "control_image_url": picture }), json!(["controlnet", "path"]), "missing"),
        (net("path", json!("/etc/passwd")), json!(["controlnet", "path"]), "value_error"),
        (
            net("control_image_url", json!("file:///a")),
            json!(["controlnet", "control_image_url"]),
            "file_download_error",
        ),
        (
            net("conditioning_scale", json!(2.5)),
            json!(["controlnet", "conditioning_scale"]),
            "less_than_equal",
        ),
        (net("start_percentage", json!(-1)), json!(["controlnet", "start_percentage"]), "greater_than_equal"),
        (net("end_percentage", json!("end")), json!(["controlnet", "end_percentage"]), "float_parsing"),
    ] {
        let answer = server.post(&format!("/run/{ENDPOINT}"), &[], &with(controlnet)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        let body = answer.json();
        let mut place = vec![json!("body")];
        place.extend(loc.as_array().expect("a list").iter().cloned());
        assert_eq!((&body["detail"][0]["loc"], &body["detail"][0]["type"]), (&json!(place), &json!(class)));
    }
}

#[tokio::test]
async fn what_cannot_be_fetched_or_used_is_a_problem_of_its_field() {
    let server = Server::start().await;
    let refused = "the ControlNet data URI: it does not fit this model";
    let engine = Scripted::new(move |_| Err(EngineError::ControlNet(refused.into())));
    let mut worker = server.worker("w", engine).await;
    let (picture, net) = (data_uri(&png(8, 8, 9)), data_uri(&file(1.0)));
    let gone = "http://test:1/files/0123456789abcdef0123456789abcdef.bin";
    for (path, image, field, class, words) in [
        (net.as_str(), picture.as_str(), "path", "value_error", refused),
        (gone, &picture, "path", "file_download_error", "the ControlNet http://test:1/files/0123456789"),
        (&net, gone, "control_image_url", "file_download_error", "the control image cannot be used: "),
        (&net, &net, "control_image_url", "image_load_error", "the control image cannot be used: "),
    ] {
        let input = with(json!({ "path": path, "control_image_url": image }));
        let answer = result(&server, &mut worker, &input).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        let problem = &answer.json()["detail"][0];
        assert_eq!(
            (&problem["loc"], &problem["type"]),
            (&json!(["body", "controlnet", field]), &json!(class))
        );
        assert!(problem["msg"].as_str().is_some_and(|msg| msg.starts_with(words)), "{problem}");
    }
}

/// On the hub weights and config are two files; the operator's are where they are.
#[tokio::test]
async fn repositories_and_names_reach_the_engine() {
    let server = Server::with(|api| api.controlnet_names = vec!["edges".into(), "depth".into()]).await;
    let weights = "diffusion_pytorch_model.safetensors";
    let repository = |files: &[(&str, Vec<u8>)]| {
        let mut repository = Repository::default();
        for (path, bytes) in files {
            repository.files.insert((*path).into(), File::new(path, bytes.clone()));
        }
        repository
    };
    let config = b"{\"_class_name\": \"SD3ControlNetModel\"}".to_vec();
    let whole = [("config.json", config.clone()), (weights, file(1.0))];
    let folders = [("x/config.json", config), ("x/net.safetensors", file(2.0))];
    let stand_in = StandIn::start([
        ("me/net".to_owned(), repository(&whole)),
        ("me/folders".to_owned(), repository(&folders)),
        ("me/bare".to_owned(), repository(&[(weights, file(3.0))])),
    ])
    .await;
    let (mut worker, got) = worker(&server).await;
    worker.hub = hub(&stand_in, server.directory.path());
    let named = server.directory.path().join("edges.safetensors");
    std::fs::write(&named, file(4.0)).expect("a file");
    worker.adapters.controlnets.insert("edges".into(), named);
    let picture = data_uri(&png(8, 8, 9));
    let with_path = |path: &str| with(json!({ "path": path, "control_image_url": picture }));
    let bare = format!("me/bare/{weights}");
    for path in ["me/net", "me/folders/x/net.safetensors", "me/net", "edges", &bare] {
        let answer = result(&server, &mut worker, &with_path(path)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    }
    let seen: Vec<_> = got.lock().expect("one engine").iter().map(|got| (got.0.clone(), got.1)).collect();
    let expected =
        [(file(1.0), true), (file(2.0), true), (file(1.0), true), (file(4.0), false), (file(3.0), false)];
    assert_eq!(seen, expected);

    // Without a connection too, where nothing says that the repository has no config.
    worker.hub.offline = Some("--offline");
    let answer = result(&server, &mut worker, &with_path(&bare)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    worker.hub.offline = None;

    // Files of images have these names, but not those of files at URLs.
    for (path, told) in [("me/net", true), ("edges", true), (data_uri(&file(1.0)).as_str(), false)] {
        let request = server.submit(&with_path(path)).await;
        tick_until_idle(&mut worker).await;
        let text = text_of(&file_of(&server, &request).await);
        let values = text.iter().filter(|(name, _)| name.starts_with("controlnet"));
        let values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, if told { vec![path, "1", "0", "1"] } else { vec![] });
    }
    let answer = result(&server, &mut worker, &with_path("me/bare")).await;
    let problem = &answer.json()["detail"][0];
    assert_eq!(problem["loc"], json!(["body", "controlnet", "path"]), "{problem}");
    assert!(
        problem["msg"].as_str().is_some_and(|msg| msg.contains("it has no file config.json")),
        "{problem}"
    );
    let answer = result(&server, &mut worker, &with_path("depth")).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let said = answer.json()["detail"].to_string();
    assert!(said.contains("--named-controlnet depth=PATH"), "{said}");
}

#[tokio::test]
async fn the_document_has_the_names_of_the_operators_files() {
    let server = Server::with(|api| {
        api.controlnet_names = vec!["edges".into(), "depth".into()];
        api.lora_names = vec!["style".into()];
    })
    .await;
    let named = server.get("/openapi.json").await.json();
    let plain = Server::start().await.get("/openapi.json").await.json();
    for (schema, names) in [("ControlNet", json!(["edges", "depth"])), ("LoraWeight", json!(["style"]))] {
        let path = |document: &Value| document["components"]["schemas"][schema]["properties"]["path"].clone();
        assert_eq!((&path(&named)["examples"], &path(&plain)["examples"]), (&names, &Value::Null));
    }
}
