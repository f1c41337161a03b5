//! Token ids of difficult texts against transformers'.

use crate::golden::case::path;
use crate::golden::{Case, json};
use latentd_models::{DType, Device, LoadOptions, ModelSource, Pipeline};
use serde_json::Value;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// The golden list has no padding.
fn padded(mut ids: Vec<u32>, length: usize, pad: u32) -> Vec<u32> {
    ids.resize(length, pad);
    ids
}

#[test]
fn ids_equal_transformers() {
    let golden = json("tokenizers.json");
    let options = LoadOptions::new(Device::Cpu, DType::F32);
    let model = path(golden["model"].as_str().expect("a model"));
    let pipeline =
        Pipeline::load(&ModelSource::Directory(model.clone()), &options).expect("the golden model");
    let strings = golden["strings"].as_array().expect("strings");
    assert!(strings.len() > 50, "only {} strings", strings.len());
    for string in strings {
        let text = string["text"].as_str().expect("a text");
        let ours = pipeline.token_ids(text, 256).expect("ids");
        for (name, ours) in ["clip_l", "clip_g", "t5"].into_iter().zip(ours) {
            let length = golden["max_length"][name].as_u64().expect("a length") as usize;
            let pad = golden["pad"][name].as_u64().expect("a pad") as u32;
            assert_eq!(ours, padded(ids(&string[name]), length, pad), "{name} of {text:?}");
        }
    }
}

/// The ids of the cases' own prompts, whose tokenizers are also in the other file formats.
#[test]
fn ids_of_every_case() {
    for name in ["base", "no_t5", "dual", "no_qk_norm", "odd_heads", "sharded"] {
        let case = Case::read(name);
        let options = LoadOptions::new(Device::Cpu, DType::F32);
        let pipeline = Pipeline::load(&ModelSource::Directory(case.model()), &options).expect(name);
        for (branch, text) in [("cond", &case.request.prompt), ("uncond", &case.request.negative_prompt)] {
            let ours = pipeline.token_ids(text, case.request.t5_tokens).expect("ids");
            for (encoder, ours) in ["clip_l", "clip_g", "t5"].into_iter().zip(ours) {
                let key = format!("{branch}.tokens.{encoder}");
                let is_encoded = branch == "cond" || case.request.guidance > 1.0;
                let has_encoder = encoder != "t5" || name != "no_t5";
                assert_eq!(case.has(&key), is_encoded && has_encoder, "{name}: {key}");
                if case.has(&key) {
                    let theirs = case.tensor(&key).to_dtype(candle_core::DType::U32).expect("ids");
                    let theirs: Vec<u32> = theirs.flatten_all().and_then(|t| t.to_vec1()).expect("ids");
                    assert_eq!(ours, theirs, "{name}: {key}");
                }
            }
        }
    }
}
