//! Every class that diffusers exports, with diffusers' results in `golden/classes.json` (`export_classes.py`): latentd
//! makes the same image, or an error that names the class.

#[expect(dead_code, reason = "the parity tests need more of it")]
#[path = "../../tests/parity/case.rs"]
mod case;
#[path = "support/copy.rs"]
mod copy;
mod support;

use case::Case;
use copy::{copy, golden};
use latentd_models::{Control, DType, Device, LoadOptions, ModelCard, ModelSource, Pipeline, Step};
use serde_json::{Value, json};
use std::path::Path;
use support::{edit, swap};

/// Each component with the class that latentd runs.
const RUN: [(&str, &str); 3] = [
    ("scheduler", "FlowMatchEulerDiscreteScheduler"),
    ("transformer", "SD3Transformer2DModel"),
    ("vae", "AutoencoderKL"),
];

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

fn classes() -> Value {
    read(&golden().join("../../classes.json"))
}

fn set(path: &Path, key: &str, value: Value) {
    let mut config = read(path);
    config[key] = value;
    std::fs::write(path, config.to_string()).expect("written");
}

/// The error of a directory, from reading only its configs.
fn refusal(dir: &Path) -> String {
    let error =
        ModelCard::read(&ModelSource::Directory(dir.to_path_buf())).expect_err("a refusal").to_string();
    assert!(!error.contains('\n'), "one sentence: {error}");
    error
}

/// The largest difference of the golden case's image from diffusers' own, made by the model in `dir`.
fn difference(dir: &Path, case: &'static str) -> u8 {
    let case = Case::read(case);
    let options = LoadOptions::new(Device::Cpu, DType::F32);
    let mut pipeline = Pipeline::load(&ModelSource::Directory(dir.into()), &options).expect("a model");
    let made = pipeline.generate(&case.request, &mut |_: Step| Control::Continue).expect("an image");
    let theirs = case.images();
    assert_eq!(made.images[0].rgb.len(), theirs.len());
    let pairs = made.images[0].rgb.iter().zip(theirs);
    pairs.map(|(ours, theirs)| ours.abs_diff(theirs)).max().expect("pixels")
}

#[test]
fn every_scheduler_class_is_equal_or_refused_by_name() {
    let all = classes();
    let all = all["schedulers"].as_object().expect("classes");
    assert!(all.len() > 45, "diffusers exports {}", all.len());
    let mut equal = Vec::new();
    for (class, theirs) in all {
        let dir = copy();
        let path = dir.path().join("scheduler/scheduler_config.json");
        // As saved by diffusers; DPM's has an `-Infinity`.
        let config =
            theirs["config"].as_str().map_or_else(|| json!({ "_class_name": class }).to_string(), Into::into);
        std::fs::write(&path, config).expect("written");
        set(&dir.path().join("model_index.json"), "scheduler", json!(["diffusers", class]));
        if class == RUN[0].1 {
            assert_eq!(theirs["mean"], json!(0.0));
            assert!(difference(dir.path(), "base") <= 3);
            equal.push(class);
            continue;
        }
        assert!(refusal(dir.path()).contains(&format!("scheduler is a {class}, ")), "{class}");
        // The class is checked in every file that names it.
        set(&dir.path().join("model_index.json"), "scheduler", json!(["diffusers", RUN[0].1]));
        assert!(refusal(dir.path()).contains(&format!("scheduler is a {class}, ")), "{class}");
    }
    assert_eq!(equal, [RUN[0].1]);
}

#[test]
fn every_model_class_is_the_one_or_refused_by_name() {
    let all = classes();
    let all: Vec<&str> = all["models"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    assert!(all.len() > 150 && RUN[1..].iter().all(|(_, class)| all.contains(class)), "{}", all.len());
    for (part, ours) in RUN {
        let dir = copy();
        let file = if part == "scheduler" { "scheduler_config.json" } else { "config.json" };
        let (path, index) = (dir.path().join(part).join(file), dir.path().join("model_index.json"));
        let (config, entry) = (read(&path), read(&index));
        for class in all.iter().filter(|class| **class != ours) {
            let complaint = format!("{part} is a {class}, and latentd runs {ours} there");
            // The config of another class may have no field in common.
            std::fs::write(&path, json!({ "_class_name": class }).to_string()).expect("written");
            assert!(refusal(dir.path()).contains(&complaint), "{complaint}");
            std::fs::write(&path, config.to_string()).expect("written");
            set(&index, part, json!(["diffusers", class]));
            assert!(refusal(dir.path()).contains(&complaint), "{complaint}");
            std::fs::write(&index, entry.to_string()).expect("written");
        }
    }
}

#[test]
fn text_encoders_and_tokenizers_of_other_classes_are_refused_by_name() {
    let all = classes();
    let all: Vec<&str> = all["models"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    for part in
        ["text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3"]
    {
        let dir = copy();
        for class in &all {
            set(&dir.path().join("model_index.json"), part, json!(["transformers", class]));
            assert!(refusal(dir.path()).contains(&format!("{part} is a {class}, ")), "{part}: {class}");
        }
        let dir = copy();
        set(&dir.path().join("model_index.json"), part, json!(["mine", "CLIPTokenizer"]));
        assert!(
            refusal(dir.path()).contains("mine.CLIPTokenizer"),
            "a class of the same name from elsewhere"
        );
    }
    for (part, other) in [("text_encoder", "siglip_text_model"), ("text_encoder_3", "umt5")] {
        let dir = copy();
        set(&dir.path().join(part).join("config.json"), "model_type", json!(other));
        let source = ModelSource::Directory(dir.path().to_path_buf());
        let error = Pipeline::load(&source, &LoadOptions::new(Device::Cpu, DType::F32)).map(drop);
        let words = error.expect_err("a refusal").to_string();
        assert!(words.contains(&format!("{part} is a {other}, ")), "{words}");
    }
}

#[test]
fn pipelines_of_other_classes_and_quantized_components_are_refused_by_name() {
    // Loading has the same errors as reading the `ModelCard`.
    let dir = copy();
    set(&dir.path().join("model_index.json"), "scheduler", json!(["diffusers", "DDIMScheduler"]));
    let source = ModelSource::Directory(dir.path().to_path_buf());
    let loaded = Pipeline::load(&source, &LoadOptions::new(Device::Cpu, DType::F32)).map(drop);
    assert_eq!(loaded.expect_err("a refusal").to_string(), refusal(dir.path()));
    for class in ["FluxPipeline", "StableDiffusion3InpaintPipeline"] {
        let dir = copy();
        set(&dir.path().join("model_index.json"), "_class_name", json!(class));
        assert!(refusal(dir.path()).contains(&format!("it is a {class}, ")));
    }
    for part in ["transformer", "vae"] {
        let dir = copy();
        let config = json!({ "quant_method": "bitsandbytes", "load_in_4bit": true });
        set(&dir.path().join(part).join("config.json"), "quantization_config", config);
        let words = refusal(dir.path());
        assert!(words.contains("bitsandbytes") && words.contains(part), "{words}");
    }
    let dir = copy();
    swap(&dir.path().join("vae/config.json"), "\"DownEncoderBlock2D\"", "\"AttnDownEncoderBlock2D\"");
    assert!(refusal(dir.path()).contains("down_block_types has \"AttnDownEncoderBlock2D\""));
}

/// Where a part has a single file and shards, diffusers takes the shards of its own models, transformers the single file.
#[test]
fn the_files_are_those_that_diffusers_reads() {
    let both = classes();
    for (part, stem) in [("transformer", "diffusion_pytorch_model"), ("text_encoder_3", "model")] {
        let dir = tempfile::tempdir().expect("a directory");
        copy::copy_all(&golden().join("../../sharded/model"), dir.path());
        let folder = dir.path().join(part);
        let shards = std::fs::read_dir(&folder).expect("a folder").filter_map(|entry| {
            let path = entry.expect("a file").path();
            path.extension().is_some_and(|extension| extension == "safetensors").then_some(path)
        });
        let shards: Vec<_> = shards.collect();
        assert!(shards.len() > 1, "{part} has {}", shards.len());
        let load = |path: &Path| candle_core::safetensors::load(path, &candle_core::Device::Cpu);
        let whole = shards.iter().flat_map(|path| load(path).expect("tensors")).collect();
        let single = folder.join(format!("{stem}.safetensors"));
        candle_core::safetensors::save(&whole, &single).expect("saved");
        let wrong = |tensors: &mut std::collections::HashMap<_, candle_core::Tensor>| {
            for tensor in tensors.values_mut() {
                *tensor = (&*tensor * 3.0).expect("other values");
            }
        };
        match both["both"][part].as_str().expect("which") {
            "shards" => edit(&single, wrong),
            "single" => shards.iter().for_each(|shard| edit(shard, wrong)),
            other => panic!("{other}"),
        }
        assert!(difference(dir.path(), "sharded") <= 3, "{part}");
    }
}
