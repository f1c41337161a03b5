//! The adapter of the built-in model: what it changes, and that it is still there after a worker was killed.

use crate::lora_serve::{image, upload, with};
use crate::support::{Program, messages, signal};
use serde_json::{Value, json};

const BLACK_AND_WHITE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/mini-lora/black-and-white.safetensors");

/// The mean difference of the strongest and the weakest channel, in levels of 255.
fn colour(png: &[u8]) -> f64 {
    let image = image::load_from_memory(png).expect("an image").into_rgb8();
    let spread = |rgb: &image::Rgb<u8>| {
        let (least, most) = (rgb.0.iter().min(), rgb.0.iter().max());
        f64::from(most.copied().unwrap_or_default() - least.copied().unwrap_or_default())
    };
    image.pixels().map(spread).sum::<f64>() / f64::from(image.width() * image.height())
}

#[test]
fn the_adapter_of_the_built_in_model_takes_the_colour_out() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::start_with(data.path(), &["--lora", &format!("black-and-white={BLACK_AND_WHITE}")]);
    let input = |loras: Value| {
        let mut input = with(loras);
        input["image_size"] = json!("square");
        input["num_inference_steps"] = json!(20);
        input
    };
    let plain = colour(&image(&server, &input(json!([]))));
    let half = colour(&image(&server, &input(json!([{ "path": "black-and-white", "scale": 0.5 }]))));
    let full = colour(&image(&server, &input(json!([{ "path": "black-and-white" }]))));
    assert!(plain > 30.0, "{plain}");
    assert!(half < plain && full < 0.35 * plain, "{plain}, at half the scale {half}, at the whole {full}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_goes_on_with_the_adapters_to_the_same_image() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Program::start(data.path());
    let path = upload(&server, &std::fs::read(BLACK_AND_WHITE).expect("an adapter"));
    let input = json!({ "prompt": "two boats on a lake", "image_size": { "width": 1024, "height": 1024 }, "seed": 3,
        "num_inference_steps": 50, "sync_mode": true, "enable_safety_checker": false,
        "loras": [{ "path": path, "scale": 0.7 }] });
    let images = |request: &str| server.call("GET", request, &Value::Null).1["images"].clone();
    let undisturbed = server.submit_input(&input);
    server.completed(&undisturbed).await;

    let request = server.submit_input(&input);
    server.stored_after(data.path(), &request, 0).await;
    signal("KILL", server.workers()[0]);
    let status = server.completed(&request).await;
    assert_eq!(status.get("error"), None, "{status}");
    assert!(images(&request) == images(&undisturbed), "other pixels");
    let lines = messages(&status);
    assert!(lines.iter().any(|line| line.starts_with("continuing after step ")), "{lines:?}");
}
