//! Skip-layer guidance over HTTP: what the engine gets, what image files say of it, and what is refused.

use crate::lifecycle::file_of;
use crate::metadata::text_of;
use crate::support::{ENDPOINT, Scripted, Server, small, small_with, tick_until_idle};
use axum::http::StatusCode;
use latentd_request::SkipLayers;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

fn with(fields: Value) -> Value {
    let mut input = small();
    for (name, value) in fields.as_object().expect("fields") {
        input[name] = value.clone();
    }
    input
}

#[tokio::test]
async fn the_fields_reach_the_engine() {
    let server = Server::start().await;
    let got = Arc::new(Mutex::new(Vec::new()));
    let seen = got.clone();
    let engine = Scripted::new(move |call| {
        seen.lock().expect("one engine").push(call.request.skip_layers.clone());
        call.grey()
    });
    let mut worker = server.worker("w", engine).await;
    let all = json!({
        "skip_guidance_layers": [7, "8", 9.0], "skip_layer_guidance_scale": "3", "skip_layer_guidance_start": 0,
        "skip_layer_guidance_stop": 0.5, "output_format": "png"
    });
    let scale_alone = json!({ "skip_layer_guidance_scale": 3 });
    let inputs = [
        with(all),
        small_with("skip_guidance_layers", vec![37]),
        small_with("skip_guidance_layers", Value::Null),
        small_with("skip_guidance_layers", Vec::<i64>::new()),
        with(scale_alone),
    ];
    let mut requests = Vec::new();
    for input in &inputs {
        requests.push(server.submit(input).await);
        tick_until_idle(&mut worker).await;
        assert_eq!(server.get(requests.last().expect("a request")).await.status, StatusCode::OK, "{input}");
    }
    let skip = |layers: &[usize], scale, start, stop| {
        Some(SkipLayers { layers: layers.to_vec(), scale, start, stop })
    };
    assert_eq!(
        got.lock().expect("one engine").as_slice(),
        [skip(&[7, 8, 9], 3.0, 0.0, 0.5), skip(&[37], 2.8, 0.01, 0.2), None, None, None]
    );

    let text = text_of(&file_of(&server, &requests[0]).await);
    let found: Vec<_> = text.iter().filter(|(name, _)| name.starts_with("skip")).collect();
    let expected = [
        ("skip_layers", "7,8,9"),
        ("skip_layers_scale", "3"),
        ("skip_layers_start", "0"),
        ("skip_layers_stop", "0.5"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_skip_layer_guidance_is_refused_by_its_place() {
    let server = Server::with(|api| {
        for served in api.endpoints.iter_mut().filter_map(|endpoint| endpoint.served.as_mut()) {
            served.layers = 24;
        }
    })
    .await;
    let layers = "skip_guidance_layers";
    for (fields, place, class, ctx) in [
        (json!({ layers: 7 }), json!([layers]), "list_type", Value::Null),
        (json!({ layers: [1, 24] }), json!([layers, 1]), "less_than_equal", json!({ "le": 23 })),
        (json!({ layers: [-1] }), json!([layers, 0]), "greater_than_equal", json!({ "ge": 0 })),
        (json!({ layers: [1.5] }), json!([layers, 0]), "int_from_float", Value::Null),
        (json!({ layers: ["first"] }), json!([layers, 0]), "int_parsing", Value::Null),
        (json!({ layers: [null] }), json!([layers, 0]), "int_type", Value::Null),
        (json!({ layers: vec![1; 65] }), json!([layers]), "sequence_too_long", json!({ "max_length": 64 })),
        (json!({ layers: [1], "guidance_scale": 1 }), json!([layers]), "value_error", Value::Null),
        (
            json!({ "skip_layer_guidance_scale": 21 }),
            json!(["skip_layer_guidance_scale"]),
            "less_than_equal",
            json!({ "le": 20.0 }),
        ),
        (
            json!({ "skip_layer_guidance_start": -0.1 }),
            json!(["skip_layer_guidance_start"]),
            "greater_than_equal",
            json!({ "ge": 0.0 }),
        ),
        (
            json!({ "skip_layer_guidance_stop": "end" }),
            json!(["skip_layer_guidance_stop"]),
            "float_parsing",
            Value::Null,
        ),
    ] {
        let answer = server.post(&format!("/run/{ENDPOINT}"), &[], &with(fields.clone())).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{fields}: {answer:?}");
        let problems = answer.json()["detail"].as_array().expect("a list").clone();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let mut loc = vec![json!("body")];
        loc.extend(place.as_array().expect("a list").iter().cloned());
        assert_eq!((&problems[0]["loc"], &problems[0]["type"]), (&json!(loc), &json!(class)), "{fields}");
        assert_eq!(problems[0]["ctx"], ctx, "{fields}");
    }
    // Each layer that is none has its own problem.
    let answer = server.post(&format!("/run/{ENDPOINT}"), &[], &with(json!({ layers: [24, 0, 99] }))).await;
    assert_eq!(answer.json()["detail"].as_array().map(Vec::len), Some(2), "{answer:?}");
    // In a query the list is text.
    let answer = server.get(&format!("/run/{ENDPOINT}?prompt=x&{layers}=%5B3%2C24%5D")).await;
    assert_eq!(answer.json()["detail"][0]["loc"], json!(["body", layers, 1]), "{answer:?}");

    let document = server.get("/openapi.json").await.json();
    let fields = &document["components"]["schemas"]["StableDiffusionV35LargeInput"]["properties"];
    let items = &fields[layers]["items"];
    assert_eq!((&items["minimum"], &items["maximum"]), (&json!(0), &json!(23)), "{items}");
    assert_eq!(fields["skip_layer_guidance_scale"]["default"], json!(2.8));
}
