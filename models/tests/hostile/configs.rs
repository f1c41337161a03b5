//! Config files.

use crate::copy::copy;
use crate::support::swap;
use crate::{assert_mentions, refusal, refusal_of_all, refusal_of_card};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;

/// Changes one value of a config file.
fn set(dir: &Path, file: &str, key: &str, value: Value) {
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config[key] = value;
    std::fs::write(&path, config.to_string()).expect("written");
}

const BILLION: usize = 1_000_000_000;

#[test]
fn sizes_that_no_model_has_are_refused_by_the_card() {
    let (transformer, vae) = ("transformer/config.json", "vae/config.json");
    let scheduler = "scheduler/scheduler_config.json";
    for (file, key, value) in [
        (transformer, "num_layers", json!(BILLION)),
        (transformer, "num_layers", json!(0)),
        (transformer, "num_attention_heads", json!(u64::MAX)),
        (transformer, "attention_head_dim", json!(1u64 << 63)),
        (transformer, "patch_size", json!(BILLION)),
        (transformer, "in_channels", json!(0)),
        (transformer, "out_channels", json!(BILLION)),
        (transformer, "joint_attention_dim", json!(BILLION)),
        (transformer, "caption_projection_dim", json!(BILLION)),
        (transformer, "pooled_projection_dim", json!(BILLION)),
        (transformer, "pos_embed_max_size", json!(BILLION)),
        (transformer, "pos_embed_max_size", json!(0)),
        (transformer, "dual_attention_layers", json!(vec![0; 5000])),
        (vae, "block_out_channels", json!([8, BILLION, 8, 8])),
        (vae, "block_out_channels", json!([])),
        (vae, "block_out_channels", json!(vec![8; 64])),
        (vae, "block_out_channels", json!([0, 0, 0, 0])),
        (vae, "layers_per_block", json!(BILLION)),
        (vae, "latent_channels", json!(0)),
        (vae, "norm_num_groups", json!(0)),
        (vae, "shift_factor", json!(1e300)),
        (scheduler, "num_train_timesteps", json!(0)),
        (scheduler, "num_train_timesteps", json!(u64::MAX)),
        (scheduler, "shift", json!(1e300)),
    ] {
        let dir = copy();
        set(dir.path(), file, key, value);
        assert_mentions(&refusal_of_card(dir.path()), &[file, key]);
    }
}

#[test]
fn sizes_that_no_encoder_has_are_refused() {
    let (clip, t5) = ("text_encoder_2/config.json", "text_encoder_3/config.json");
    for (file, key, value) in [
        (clip, "num_hidden_layers", json!(BILLION)),
        (clip, "hidden_size", json!(BILLION)),
        (clip, "vocab_size", json!(BILLION)),
        (clip, "num_attention_heads", json!(0)),
        (clip, "max_position_embeddings", json!(BILLION)),
        (clip, "projection_dim", json!(0)),
        (t5, "num_layers", json!(BILLION)),
        (t5, "num_heads", json!(u64::MAX)),
        (t5, "d_kv", json!(u64::MAX)),
        (t5, "d_ff", json!(BILLION)),
        // Half of it would leave no bucket.
        (t5, "relative_attention_num_buckets", json!(1)),
        (t5, "relative_attention_max_distance", json!(0)),
    ] {
        let dir = copy();
        set(dir.path(), file, key, value);
        assert_mentions(&refusal_of_all(dir.path()), &[file, key]);
    }
}

/// Every size is valid for some model, and the files are of another one: allocating those sizes would take 3 TB.
#[test]
fn a_config_of_a_giant_beside_small_weights_is_refused_at_once() {
    let dir = copy();
    let config = "transformer/config.json";
    for (key, value) in [
        ("attention_head_dim", json!(64)),
        ("num_attention_heads", json!(1000)),
        ("caption_projection_dim", json!(64_000)),
        ("num_layers", json!(1000)),
        ("pos_embed_max_size", json!(8192)),
    ] {
        set(dir.path(), config, key, value);
    }
    let error = refusal(dir.path());
    assert!(error.contains("do not fit the config files"), "{error}");
    let dir = copy();
    set(dir.path(), "vae/config.json", "block_out_channels", json!([60_000, 60_000, 60_000, 60_000]));
    let error = refusal_of_all(dir.path());
    assert!(error.contains("do not fit the config files") && error.contains("vae: "), "{error}");
}

#[test]
fn a_config_file_of_five_gigabytes_is_not_read() {
    for file in ["transformer/config.json", "model_index.json", "vae/config.json"] {
        let dir = copy();
        let config = File::options().write(true).open(dir.path().join(file)).expect("a file");
        config.set_len(5_000_000_000).expect("a sparse file");
        assert_mentions(&refusal_of_card(dir.path()), &[file, "5000000000 bytes"]);
    }
}

#[test]
fn a_config_that_is_no_file_is_refused() {
    let file = "transformer/config.json";
    for target in ["/dev/zero", "config.json", ".."] {
        let dir = copy();
        let path = dir.path().join(file);
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(target, &path).expect("a link");
        assert_mentions(&refusal_of_card(dir.path()), &[file]);
    }
}

#[test]
fn deep_json_and_duplicate_keys_are_refused() {
    let dir = copy();
    swap(&dir.path().join("vae/config.json"), "{", "{\"scaling_factor\": 1, ");
    assert_mentions(&refusal_of_card(dir.path()), &["vae/config.json", "duplicate field"]);
    let deep = format!("{{\"num_layers\": {}", "[".repeat(1_000_000));
    for text in [
        deep.as_str(),
        r#"{"num_layers": 1, "num_layers": 2}"#,
        "\u{feff}{}",
        "",
        "null",
        "{\"a\": \"\\ud800\"}",
    ] {
        let dir = copy();
        std::fs::write(dir.path().join("transformer/config.json"), text).expect("written");
        assert_mentions(&refusal_of_card(dir.path()), &["transformer/config.json"]);
    }
}

/// Text of a config in an error is shortened, and cannot add lines.
#[test]
fn long_texts_of_a_config_are_cut() {
    let long = "x\n".repeat(1_000_000);
    for (file, key) in [
        ("model_index.json", "_class_name"),
        ("transformer/config.json", "qk_norm"),
        ("transformer/config.json", "num_layers"),
        ("vae/config.json", "act_fn"),
    ] {
        let dir = copy();
        set(dir.path(), file, key, json!(long));
        let error = refusal_of_card(dir.path());
        assert_mentions(&error, &[file, "x\\nx\\n"]);
        assert!(error.len() < 1000);
    }
}
