//! Directories that diffusers runs although its newest version writes them differently.

#[path = "support/copy.rs"]
mod copy;
#[path = "support/edit.rs"]
mod edit;

use candle_core::{DType as Stored, Tensor};
use copy::{copy, golden};
use edit::edit;
use latentd_models::{
    Control, DType, Device, GenerateRequest, Image, InitImage, LoadOptions, ModelSource, Observer, Pipeline,
    Step,
};
use serde_json::{Value, json};
use std::path::Path;

fn request() -> GenerateRequest {
    let image = Image { width: 40, height: 32, rgb: (0..3 * 40 * 32).map(|at| (at % 253) as u8).collect() };
    GenerateRequest {
        prompt: "a red fox! and a lighthouse".into(),
        negative_prompt: "blurry".into(),
        width: 64,
        height: 48,
        steps: 3,
        guidance: 4.0,
        seed: 1,
        num_images: 1,
        skipped_images: 0,
        t5_tokens: 24,
        check_safety: true,
        init_image: Some(InitImage { image, strength: 0.8, mask: None }),
        loras: Vec::new(),
        skip_layers: None,
        controlnet: None,
        ip_adapter: None,
    }
}

fn load(dir: &Path) -> latentd_models::Result<Pipeline> {
    let options = LoadOptions::new(Device::Cpu, DType::F32);
    Pipeline::load(&ModelSource::Directory(dir.to_path_buf()), &options)
}

fn image(dir: &Path) -> Vec<u8> {
    let mut pipeline = load(dir).expect("a model");
    pipeline.generate(&request(), &mut |_: Step| Control::Continue).expect("an image").images.remove(0).rgb
}

#[test]
fn weights_in_f64() {
    let dir = copy();
    for file in [
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder_3/model.safetensors",
    ] {
        edit(&dir.path().join(file), |tensors| {
            for tensor in tensors.values_mut() {
                *tensor = tensor.to_dtype(Stored::F64).expect("f64");
            }
        });
    }
    assert_eq!(image(dir.path()), image(&golden()));
}

/// Until 0.17 diffusers had other names for the projections of the VAE's attention.
#[test]
fn old_names_of_the_vaes_attention() {
    let dir = copy();
    let mut renamed = 0;
    edit(&dir.path().join("vae/diffusion_pytorch_model.safetensors"), |tensors| {
        for (new, old) in [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")] {
            let names: Vec<_> = tensors.keys().filter(|name| name.contains(new)).cloned().collect();
            for name in names {
                let tensor: Tensor = tensors.remove(&name).expect("a tensor");
                tensors.insert(name.replace(new, old), tensor);
                renamed += 1;
            }
        }
    });
    assert_eq!(renamed, 16, "weights and biases of both halves");
    assert_eq!(image(dir.path()), image(&golden()));
}

/// transformers reads `special_tokens_map.json` if the config lists no added tokens.
#[test]
fn a_pad_token_in_the_map_of_special_tokens() {
    for part in ["tokenizer", "tokenizer_2"] {
        let dir = copy();
        let path = dir.path().join(part).join("tokenizer_config.json");
        let text = std::fs::read_to_string(&path).expect("a config");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        let pad = config.as_object_mut().expect("an object").remove("pad_token").expect("a pad token");
        let added = config["added_tokens_decoder"].as_object().expect("tokens").clone();
        config.as_object_mut().expect("an object").remove("added_tokens_decoder");
        std::fs::write(&path, config.to_string()).expect("written");
        let map_path = dir.path().join(part).join("special_tokens_map.json");
        std::fs::remove_file(&map_path).expect("removed");
        let words = load(dir.path()).map(drop).expect_err("no pad token").to_string();
        assert!(words.contains("no pad_token") && words.contains("special_tokens_map.json"), "{words}");

        // As transformers wrote it, with the tokens' content.
        let spelled = |name: &Value| added.values().find(|token| token["content"] == *name).cloned();
        let pad = spelled(&pad).unwrap_or(pad);
        let mut map = json!({ "pad_token": pad });
        for key in ["bos_token", "eos_token", "unk_token"] {
            map[key] = spelled(&config[key]).unwrap_or_else(|| config[key].clone());
        }
        std::fs::write(&map_path, map.to_string()).expect("written");
        assert_eq!(image(dir.path()), image(&golden()), "{part}");
    }
}

/// Python's JSON has numbers that JSON does not allow.
#[test]
fn pythons_numbers_in_unused_fields() {
    let dir = copy();
    let path = dir.path().join("scheduler/scheduler_config.json");
    let text = std::fs::read_to_string(&path).expect("a config");
    std::fs::write(&path, text.replacen('{', "{\"other\": [-Infinity, NaN], ", 1)).expect("written");
    assert_eq!(image(dir.path()), image(&golden()));
}

/// Records the notes of a request.
#[derive(Default)]
struct Listener(Vec<String>);

impl Observer for Listener {
    fn step(&mut self, _: Step) -> Control {
        Control::Continue
    }

    fn note(&mut self, words: &str) {
        self.0.push(words.to_owned());
    }
}

#[test]
fn a_truncated_prompt_is_reported_with_the_words_that_are_cut() {
    let mut pipeline = load(&golden()).expect("a model");
    let words = (0..120).map(|index| format!("fox{index}")).collect::<Vec<_>>().join(" ");
    let long = GenerateRequest { prompt: words, negative_prompt: "blurry ".repeat(200), ..request() };
    // The second time both prompts are cached, and the note is the same.
    for _ in 0..2 {
        let mut listener = Listener::default();
        pipeline.generate(&long, &mut listener).expect("an image");
        let notes = listener.0;
        assert_eq!(notes.len(), 4, "{notes:?}");
        assert!(
            notes[0].starts_with("the prompt is cut after 77 tokens for CLIP-L and CLIP-G: \""),
            "{notes:?}"
        );
        assert!(notes[1].starts_with("the prompt is cut after 24 tokens for T5: \""), "{notes:?}");
        assert!(
            notes[..2].iter().all(|line| line.contains("is left out") && line.contains(" fox")),
            "{notes:?}"
        );
        assert!(notes[2].starts_with("the negative prompt is cut after 77"), "{notes:?}");
    }
    let mut listener = Listener::default();
    pipeline.generate(&GenerateRequest { guidance: 1.0, ..long }, &mut listener).expect("an image");
    assert!(
        listener.0.len() == 2 && listener.0.iter().all(|line| !line.contains("negative")),
        "{:?}",
        listener.0
    );
    let mut listener = Listener::default();
    pipeline.generate(&request(), &mut listener).expect("an image");
    assert!(listener.0.is_empty(), "{:?}", listener.0);
}

/// A directory with only a variant of its weights, such as `variant="fp16"` reads.
#[test]
fn a_variant_is_named() {
    for (part, stem) in [("transformer", "diffusion_pytorch_model"), ("text_encoder_3", "model")] {
        let dir = copy();
        let file = |variant: &str| dir.path().join(part).join(format!("{stem}{variant}.safetensors"));
        std::fs::rename(file(""), file(".fp16")).expect("renamed");
        let words = load(dir.path()).map(drop).expect_err("no weights").to_string();
        assert!(words.contains("variant fp16") && words.contains("take \".fp16\" out"), "{words}");
        assert!(!words.contains('\n'), "{words}");
    }
}

/// The error of a missing or wrong config names the file once, and the field, without system error numbers.
#[test]
fn messages_name_the_file_and_the_field() {
    let dir = copy();
    let path = dir.path().join("vae/config.json");
    std::fs::remove_file(&path).expect("removed");
    let words = load(dir.path()).map(drop).expect_err("a refusal").to_string();
    assert_eq!(words, format!("{}: there is no such file or directory", path.display()));
    for (part, key) in [
        ("transformer", "num_layers"),
        ("vae", "scaling_factor"),
        ("text_encoder", "hidden_size"),
        ("text_encoder_3", "d_ff"),
    ] {
        let dir = copy();
        let path = dir.path().join(part).join("config.json");
        let text = std::fs::read_to_string(&path).expect("a config");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        config[key] = json!("three");
        std::fs::write(&path, config.to_string()).expect("written");
        let words = load(dir.path()).map(drop).expect_err("a refusal").to_string();
        let expected = format!("{}: {key}: invalid type: string \"three\"", path.display());
        assert!(words.starts_with(&expected), "{words}");
    }
}
