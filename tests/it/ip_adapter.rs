//! `ip_adapter` over HTTP: where its files come from, what the engine gets, and what is refused.

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
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What an engine got: the adapter's bytes or folder; those of the encoder's weights, config and processor, or its folder; and
/// the image's size, both names and the scale.
type Got = (Vec<u8>, [Option<Vec<u8>>; 3], (usize, usize), (String, String, f64));

const CONFIG: &[u8] = b"{\"model_type\": \"siglip\"}";
const PROCESSOR: &[u8] = b"{\"resample\": 3}";

fn with(ip_adapter: Value) -> Value {
    let mut input = small();
    input["ip_adapter"] = ip_adapter;
    input
}

/// A file's bytes, or the name of a folder.
fn content(path: &PathBuf) -> Vec<u8> {
    match path.extension().is_none() && !path.is_file() {
        true => path.file_name().expect("a name").to_string_lossy().as_bytes().to_vec(),
        false => std::fs::read(path).expect("its file"),
    }
}

async fn worker(server: &Server) -> (Worker, Arc<Mutex<Vec<Got>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let seen = got.clone();
    let engine = Scripted::new(move |call| {
        let adapter = call.ip_adapter.as_ref().expect("an IP-Adapter");
        let encoder = &adapter.encoder;
        let files = [Some(&encoder.path), encoder.config.as_ref(), encoder.processor.as_ref()];
        let size = (adapter.image.width, adapter.image.height);
        let settings = (adapter.name.clone(), encoder.name.clone(), adapter.scale);
        let files = files.map(|file| file.map(content));
        seen.lock().expect("one engine").push((content(&adapter.path), files, size, settings));
        call.grey()
    });
    let mut worker = server.worker("w", engine).await;
    worker.outgoing = Client::new(Egress::new(true), "--fetch-allow");
    (worker, got)
}

/// A hub with an adapter and an encoder, each at the top and in a folder; the last encoder lacks a file.
async fn stand_in() -> StandIn {
    let repository = |files: &[(&str, Vec<u8>)]| {
        let mut repository = Repository::default();
        for (path, bytes) in files {
            repository.files.insert((*path).into(), File::new(path, bytes.clone()));
        }
        repository
    };
    let encoder = |folder: &str, weights: &str, value: f32| {
        let path = |name: &str| format!("{folder}{name}");
        [
            (path("config.json"), CONFIG.to_vec()),
            (path("preprocessor_config.json"), PROCESSOR.to_vec()),
            (path(weights), file(value)),
        ]
    };
    let encoders = [encoder("", "model.safetensors", 3.0), encoder("a/b/", "eyes.safetensors", 4.0)].concat();
    let encoders: Vec<_> = encoders.iter().map(|(path, bytes)| (path.as_str(), bytes.clone())).collect();
    StandIn::start([
        (
            "me/adapter".to_owned(),
            repository(&[("ip-adapter.safetensors", file(1.0)), ("x/style.safetensors", file(2.0))]),
        ),
        ("me/siglip".to_owned(), repository(&encoders)),
        (
            "me/bare".to_owned(),
            repository(&[("config.json", CONFIG.to_vec()), ("model.safetensors", file(3.0))]),
        ),
    ])
    .await
}

async fn result(server: &Server, worker: &mut Worker, input: &Value) -> Answer {
    let request = server.submit(input).await;
    tick_until_idle(worker).await;
    server.get(&request).await
}

#[tokio::test]
async fn files_image_and_scale_reach_the_engine() {
    let server = Server::with(|api| api.ip_adapter_names = vec!["style".into()]).await;
    let (hub_server, url) = (stand_in().await, upload(&server, file(5.0), None).await);
    let (mut worker, got) = worker(&server).await;
    worker.hub = hub(&hub_server, server.directory.path());
    worker.adapters.ip_adapters.insert("style".into(), server.directory.path().join("folder"));
    let picture = data_uri(&png(40, 24, 9));
    let asked = |path: &str, encoder: &str, more: Value| {
        let mut field =
            json!({ "path": path, "image_encoder_path": encoder, "image_url": picture, "scale": 0.5 });
        for (name, value) in more.as_object().expect("fields") {
            field[name] = value.clone();
        }
        with(field)
    };
    let folders = json!({
        "subfolder": "x", "weight_name": "style.safetensors", "image_encoder_subfolder": "a/b",
        "image_encoder_weight_name": "eyes.safetensors", "scale": "2", "mask_image_url": null
    });
    let inputs = [
        asked("me/adapter", "me/siglip", json!({ "subfolder": "", "weight_name": null })),
        asked("me/adapter", "me/siglip", folders),
        asked("me/adapter/x/style.safetensors", "me/siglip", json!({})),
        asked(&url, "me/siglip", json!({})),
        asked("style", "style", json!({})),
    ];
    for input in &inputs {
        let answer = result(&server, &mut worker, input).await;
        assert_eq!(answer.status, StatusCode::OK, "{input} {answer:?}");
    }
    let encoder = |value: f32| [Some(file(value)), Some(CONFIG.to_vec()), Some(PROCESSOR.to_vec())];
    let names = |path: &str, encoder: &str, scale: f64| (path.to_owned(), encoder.to_owned(), scale);
    let size = (40, 24);
    assert_eq!(
        got.lock().expect("one engine").as_slice(),
        [
            (file(1.0), encoder(3.0), size, names("me/adapter", "me/siglip", 0.5)),
            (file(2.0), encoder(4.0), size, names("me/adapter", "me/siglip", 2.0)),
            (file(2.0), encoder(3.0), size, names("me/adapter/x/style.safetensors", "me/siglip", 0.5)),
            (file(5.0), encoder(3.0), size, names(&url, "me/siglip", 0.5)),
            (
                b"folder".to_vec(),
                [Some(b"image_encoder".to_vec()), None, None],
                size,
                names("style", "style", 0.5)
            ),
        ]
    );

    // Files of images have these names, but not those of files at URLs.
    let named = |adapter: &str, encoder: &str, scale: &str| {
        let values = [("ip_adapter", adapter), ("ip_adapter_encoder", encoder), ("ip_adapter_scale", scale)];
        values.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    };
    let (usual, encoder) = ("me/adapter/ip-adapter.safetensors", "me/siglip/model.safetensors");
    let style = "me/adapter/x/style.safetensors";
    let expected = [
        named(usual, encoder, "0.5"),
        named(style, "me/siglip/a/b/eyes.safetensors", "2"),
        named(style, encoder, "0.5"),
        Vec::new(),
        named("style", "style", "0.5"),
    ];
    for (input, expected) in inputs.iter().zip(expected) {
        let mut input = input.clone();
        input["output_format"] = json!("png");
        let request = server.submit(&input).await;
        tick_until_idle(&mut worker).await;
        let mut text = text_of(&file_of(&server, &request).await);
        text.retain(|(name, _)| name.starts_with("ip_adapter"));
        assert_eq!(text, expected, "{input}");
    }
    let request = server.submit(&inputs[4]).await;
    tick_until_idle(&mut worker).await;
    let status = server.status(&request).await;
    assert!(messages(&status).iter().any(|line| line == "fetching the IP-Adapter"), "{status}");
}

#[tokio::test]
async fn what_is_no_ip_adapter_is_refused_by_its_place() {
    let server = Server::start().await;
    let picture = data_uri(&png(8, 8, 9));
    let changed = |name: &str, value: Option<Value>| {
        let mut field = json!({
            "path": "me/a", "image_encoder_path": "me/siglip", "image_url": picture, "scale": 1
        });
        match value {
            Some(value) => field[name] = value,
            None => drop(field.as_object_mut().expect("an object").remove(name)),
        }
        field
    };
    let refused = async |field: Value| {
        let answer = server.post(&format!("/run/{ENDPOINT}"), &[], &with(field)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        answer.json()["detail"].as_array().expect("a list").clone()
    };
    let problems = refused(json!("x")).await;
    assert_eq!(
        (&problems[0]["loc"], &problems[0]["type"]),
        (&json!(["body", "ip_adapter"]), &json!("model_attributes_type"))
    );
    for (name, value, class) in [
        ("path", None, "missing"),
        ("image_encoder_path", None, "missing"),
        ("image_url", None, "missing"),
        ("scale", None, "missing"),
        ("path", Some(json!("/etc/passwd")), "value_error"),
        ("path", Some(json!(7)), "string_type"),
        ("subfolder", Some(json!("../up")), "value_error"),
        ("subfolder", Some(json!(7)), "string_type"),
        ("weight_name", Some(json!("ip-adapter.bin")), "value_error"),
        ("image_encoder_path", Some(json!("https://example.com/model.safetensors")), "value_error"),
        ("image_encoder_subfolder", Some(json!("a//b")), "value_error"),
        ("image_encoder_weight_name", Some(json!(".hidden.safetensors")), "value_error"),
        ("image_url", Some(json!("file:///a")), "file_download_error"),
        ("scale", Some(json!(-1)), "greater_than_equal"),
        ("scale", Some(json!("much")), "float_parsing"),
        ("mask_image_url", Some(json!(picture)), "feature_not_supported"),
    ] {
        let problems = refused(changed(name, value.clone())).await;
        let place = json!(["body", "ip_adapter", name]);
        assert_eq!(problems.len(), 1, "{name} {value:?}: {problems:?}");
        assert_eq!((&problems[0]["loc"], &problems[0]["type"]), (&place, &json!(class)), "{problems:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_fetched_or_used_is_a_problem_of_its_field() {
    let server = Server::with(|api| api.ip_adapter_names = vec!["style".into()]).await;
    let (misfit, blind) =
        ("the IP-Adapter data URI: it does not fit this model", "the image encoder me/siglip: no");
    let engine = Scripted::new(move |call| {
        let is_blind = call.ip_adapter.as_ref().is_some_and(|adapter| adapter.scale == 2.0);
        Err(match is_blind {
            true => EngineError::ImageEncoder(blind.into()),
            false => EngineError::IpAdapter(misfit.into()),
        })
    });
    let mut worker = server.worker("w", engine).await;
    let hub_server = stand_in().await;
    worker.hub = hub(&hub_server, server.directory.path());
    let (picture, adapter) = (data_uri(&png(8, 8, 9)), data_uri(&file(1.0)));
    let gone = "http://test:1/files/0123456789abcdef0123456789abcdef.bin";
    let asked = |path: &str, encoder: &str, image: &str, scale: f64| {
        with(json!({ "path": path, "image_encoder_path": encoder, "image_url": image, "scale": scale }))
    };
    let no_file = "the IP-Adapter me/siglip: ";
    let no_config = "the image encoder me/bare: ";
    for (input, field, class, words) in [
        (asked(&adapter, "me/siglip", &picture, 1.0), "path", "value_error", misfit),
        (asked(&adapter, "me/siglip", &picture, 2.0), "image_encoder_path", "value_error", blind),
        (
            asked(gone, "me/siglip", &picture, 1.0),
            "path",
            "file_download_error",
            "the IP-Adapter http://test:1/",
        ),
        (asked("me/siglip", "me/siglip", &picture, 1.0), "path", "file_download_error", no_file),
        (asked(&adapter, "me/bare", &picture, 1.0), "image_encoder_path", "file_download_error", no_config),
        (
            asked(&adapter, "me/siglip", gone, 1.0),
            "image_url",
            "file_download_error",
            "the image prompt cannot",
        ),
        (
            asked(&adapter, "me/siglip", &adapter, 1.0),
            "image_url",
            "image_load_error",
            "the image prompt cannot",
        ),
    ] {
        let answer = result(&server, &mut worker, &input).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        let problem = &answer.json()["detail"][0];
        let place = json!(["body", "ip_adapter", field]);
        assert_eq!((&problem["loc"], &problem["type"]), (&place, &json!(class)), "{problem}");
        assert!(problem["msg"].as_str().is_some_and(|msg| msg.starts_with(words)), "{problem}");
    }
    let answer = result(&server, &mut worker, &asked("style", "style", &picture, 1.0)).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let said = answer.json()["detail"].to_string();
    assert!(said.contains("--named-ip-adapter style=PATH"), "{said}");
}
