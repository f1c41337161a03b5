//! Adapters in the whole program: names that are checked at the start, and real adapters on real models.

use crate::lora_files::{Tensor, safetensors};
use crate::support::{Program, exchange};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const RUN: &str = "/run/fal-ai/stable-diffusion-v35-large";

fn golden(name: &str) -> PathBuf {
    Path::new(ROOT).join("tests/parity/golden").join(name)
}

pub(crate) fn with(loras: Value) -> Value {
    json!({ "prompt": "a red house by a lake at noon", "image_size": { "width": 64, "height": 64 }, "seed": 5,
        "num_inference_steps": 2, "sync_mode": true, "output_format": "png", "loras": loras })
}

/// The first image of a run.
pub(crate) fn image(server: &Program, input: &Value) -> Vec<u8> {
    let (code, body) = server.call("POST", RUN, input);
    assert_eq!(code, 200, "{body}");
    let url = body["images"][0]["url"].as_str().expect("a URL").to_owned();
    let base64 = url.strip_prefix("data:image/png;base64,").expect("a PNG inside");
    BASE64_STANDARD.decode(base64).expect("base64")
}

/// Uploads a file; its URL.
pub(crate) fn upload(server: &Program, bytes: &[u8]) -> String {
    let (head, body) = exchange(&server.address, "POST", "/files/upload", "", bytes);
    let body: Value = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{head}"));
    body["access_url"].as_str().expect("a URL").to_owned()
}

#[test]
fn a_file_that_fits_no_model_ends_the_start_and_is_found_by_doctor() {
    let folder = tempfile::tempdir().expect("a directory");
    let pickle = folder.path().join("style.safetensors");
    std::fs::write(&pickle, [0x80, 2, 0x7d]).expect("a file");
    let peft = golden("lora/peft.safetensors");
    for (path, words) in [
        (Path::new("/nowhere/a.safetensors"), "there is no such file"),
        (&pickle, "it is a pickle"),
        (&peft, "it does not fit this model"),
    ] {
        let flag = format!("--lora=style={}", path.display());
        let expected = format!("the LoRA style (--lora style={}): {words}", path.display());
        let served = Program::command(&folder.path().join("data"), &[&flag]).output().expect("the program");
        let stderr = String::from_utf8_lossy(&served.stderr);
        assert!(!served.status.success() && stderr.contains(&expected), "{stderr}");
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_latentd"));
        let doctor = doctor.args(["doctor", "--json", &flag, "--listen", "127.0.0.1:0", "--data-dir"]);
        let doctor = doctor.arg(folder.path().join("doctor")).output().expect("the program");
        let report: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
        let findings = report["findings"].as_array().expect("findings").iter();
        let found: Vec<_> = findings.filter(|finding| finding["about"] == "LoRA adapter").collect();
        assert_eq!((found.len(), &found[0]["state"]), (1, &json!("wrong")), "{report}");
        assert!(found[0]["found"].as_str().is_some_and(|text| text.contains(&expected)), "{report}");
    }
    let served =
        Program::command(folder.path(), &["--lora", "style.safetensors"]).output().expect("the program");
    let stderr = String::from_utf8_lossy(&served.stderr);
    assert!(served.status.code() == Some(2) && stderr.contains("give NAME=PATH"), "{stderr}");
}

/// A file of these tensors, all zero.
fn zeros(tensors: &[(&str, [usize; 2])]) -> Vec<u8> {
    let tensors: Vec<Tensor> = tensors.iter().map(|(name, shape)| Tensor::zeros(name, *shape)).collect();
    safetensors(&tensors)
}

#[test]
fn real_adapters_change_the_image_and_bad_ones_are_a_422() {
    let data = tempfile::tempdir().expect("a directory");
    let model = format!("stable-diffusion-3.5-large={}", golden("base/model").display());
    let named = format!("peft={}", golden("lora/peft.safetensors").display());
    let server = Program::start_with(
        data.path(),
        &["--model", &model, "--safety-checker", "none", "--t5-tokens", "16", "--lora", &named],
    );
    let peft = std::fs::read(golden("lora/peft.safetensors")).expect("an adapter");
    let comfy = std::fs::read(golden("lora/comfy.safetensors")).expect("an adapter");
    let (peft_url, comfy_url) = (upload(&server, &peft), upload(&server, &comfy));
    let alone = image(&server, &with(json!([])));
    let one = image(&server, &with(json!([{ "path": "peft" }])));
    assert_ne!(one, alone);
    assert_eq!(image(&server, &with(json!([{ "path": peft_url }]))), one, "the same file");
    assert_eq!(image(&server, &with(json!([{ "path": "peft", "scale": 0 }]))), alone);
    let two = image(&server, &with(json!([{ "path": "peft", "scale": 0.5 }, { "path": comfy_url }])));
    assert!(two != one && two != alone);
    assert_eq!(image(&server, &with(json!([]))), alone, "the next request has none");

    let module = "transformer.transformer_blocks.0.attn.to_q";
    let (down, up) = (format!("{module}.lora_A.weight"), format!("{module}.lora_B.weight"));
    let dora = format!("{module}.lora_magnitude_vector");
    let flux = "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight";
    for (bytes, words) in [
        (&peft[..peft.len() - 8], "no whole safetensors file"),
        (
            &zeros(&[(&down, [2, 7]), (&up, [7, 2])]),
            "wrong shape: transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
        ),
        (&zeros(&[(&down, [2, 7]), (&up, [7, 3])]), "wrong shape"),
        (&zeros(&[(&down, [2, 7]), (&dora, [1, 7])]), "it is DoRA"),
        (&zeros(&[(flux, [2, 7])]), "it is made for FLUX"),
        (&zeros(&[("noise", [1, 1])]), "unknown: noise"),
    ] {
        let url = upload(&server, bytes);
        let (code, body) = server.call("POST", RUN, &with(json!([{ "path": "peft" }, { "path": url }])));
        let problem = &body["detail"][0];
        assert_eq!((code, &problem["loc"]), (422, &json!(["body", "loras", 1, "path"])), "{body}");
        let text = problem["msg"].as_str().expect("a text");
        assert!(text.starts_with(&format!("the LoRA {url}: ")) && text.contains(words), "{words}: {text}");
        assert!(!text.contains(data.path().to_str().expect("a path")), "{text}");
    }
    assert_eq!(image(&server, &with(json!([{ "path": "peft" }]))), one, "the worker goes on");
    let (_, metrics) = server.exchange("GET", "/metrics", &Value::Null);
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    assert!(value("latentd_adapter_cache_bytes") >= (peft.len() + comfy.len()) as f64);
    assert_eq!(value(r#"latentd_adapters_total{from="upload"}"#), 8.0);
}

#[test]
fn a_server_that_is_offline_asks_the_hub_for_no_adapter() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = Program::start_with(&folder.path().join("data"), &["--offline"]);
    let (code, body) = server.call("POST", RUN, &with(json!([{ "path": "owner/name" }])));
    assert_eq!(code, 422, "{body}");
    assert!(body.to_string().contains("which --offline keeps from asking the hub"), "{body}");
}
