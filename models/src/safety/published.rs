//! The config files of the published classifiers, as far as they say anything of images, are read as they mean it.

use super::config::Config;
use crate::vision::{Preprocessor, Processing, ProcessorConfig};

const FALCONSAI: &str = r#"{
    "_name_or_path": "google/vit-base-patch16-224-in21k", "architectures": ["ViTForImageClassification"],
    "attention_probs_dropout_prob": 0.0, "encoder_stride": 16, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
    "hidden_size": 768, "id2label": {"0": "normal", "1": "nsfw"}, "image_size": 224, "initializer_range": 0.02,
    "intermediate_size": 3072, "label2id": {"normal": "0", "nsfw": "1"}, "layer_norm_eps": 1e-12, "model_type": "vit",
    "num_attention_heads": 12, "num_channels": 3, "num_hidden_layers": 12, "patch_size": 16,
    "problem_type": "single_label_classification", "qkv_bias": true, "torch_dtype": "float32",
    "transformers_version": "4.31.0"
}"#;

const FALCONSAI_PROCESSOR: &str = r#"{
    "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 2,
    "rescale_factor": 0.00392156862745098, "size": {"height": 224, "width": 224}
}"#;

/// Before transformers 4.27: both halves spelt out, then again.
const COMPVIS_OLD: &str = r#"{
    "_commit_hash": null, "_name_or_path": "clip-vit-large-patch14/", "architectures": ["StableDiffusionSafetyChecker"],
    "initializer_factor": 1.0, "logit_scale_init_value": 2.6592, "model_type": "clip", "projection_dim": 768,
    "text_config": {"hidden_size": 768, "model_type": "clip_text_model", "num_attention_heads": 12},
    "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
    "torch_dtype": "float32", "transformers_version": null,
    "vision_config": {
        "_name_or_path": "", "architectures": null, "attention_dropout": 0.0, "bos_token_id": null, "dropout": 0.0,
        "hidden_act": "quick_gelu", "hidden_size": 1024, "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
        "image_size": 224, "intermediate_size": 4096, "layer_norm_eps": 1e-05, "model_type": "clip_vision_model",
        "num_attention_heads": 16, "num_channels": 3, "num_hidden_layers": 24, "patch_size": 14, "pruned_heads": {}
    },
    "vision_config_dict": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14
    }
}"#;

/// Since then: what differs from the default.
const COMPVIS_NEW: &str = r#"{
    "_name_or_path": "CompVis/stable-diffusion-safety-checker", "architectures": ["StableDiffusionSafetyChecker"],
    "initializer_factor": 1.0, "logit_scale_init_value": 2.6592, "model_type": "clip", "projection_dim": 768,
    "text_config": {"dropout": 0.0, "hidden_size": 768, "model_type": "clip_text_model"},
    "torch_dtype": "float32", "transformers_version": "4.37.2",
    "vision_config": {
        "dropout": 0.0, "hidden_size": 1024, "intermediate_size": 4096, "model_type": "clip_vision_model",
        "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14
    }
}"#;

const COMPVIS_PROCESSORS: [&str; 2] = [
    r#"{
        "crop_size": 224, "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224
    }"#,
    r#"{
        "crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true,
        "do_rescale": true, "do_resize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "CLIPImageProcessor", "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 224}
    }"#,
];

fn config(text: &str) -> Config {
    Config::parse(text.as_bytes()).expect("a configuration")
}

fn processing(text: &str, config: &Config) -> Result<Processing, String> {
    let file: ProcessorConfig = serde_json::from_str(text).expect("JSON");
    Processing::new(&file, config.kind(), config.image())
}

#[test]
fn falconsai_is_a_vit_b_16() {
    let config = config(FALCONSAI);
    let Config::Vit(vit) = &config else { panic!("{config:?}") };
    let shape = vit.shape();
    assert_eq!((shape.hidden, shape.inner, shape.heads, shape.layers, shape.patch), (768, 3072, 12, 12, 16));
    assert_eq!((shape.act.as_str(), shape.eps, vit.unsafe_label()), ("gelu", 1e-12, Ok(1)));
    let processing = processing(FALCONSAI_PROCESSOR, &config).expect("a processor");
    assert_eq!(processing.place(768, 1024), ((224, 224), 0..224, 0..224));
}

#[test]
fn compvis_is_a_clip_l_14() {
    for text in [COMPVIS_OLD, COMPVIS_NEW] {
        let config = config(text);
        let Config::Clip(clip) = &config else { panic!("{config:?}") };
        let shape = clip.shape();
        assert_eq!(
            (shape.hidden, shape.inner, shape.heads, shape.layers, shape.patch),
            (1024, 4096, 16, 24, 14)
        );
        assert_eq!((shape.act.as_str(), shape.eps, clip.projection_dim), ("quick_gelu", 1e-5, 768));
        for text in COMPVIS_PROCESSORS {
            let processing = processing(text, &config).expect("a processor");
            assert_eq!(processing.place(768, 1024), ((224, 298), 0..224, 37..261));
            assert_eq!(processing.place(1024, 768), ((298, 224), 37..261, 0..224));
            assert_eq!(processing.mean[0].to_bits(), 0.481_454_66_f32.to_bits());
        }
        // All that is left out is CLIP's own.
        let bare = processing("{}", &config).expect("a processor");
        assert_eq!((bare.mean[2], bare.deviation[1]), (0.408_210_73, 0.261_302_6));
        assert_eq!(bare.place(768, 1024), ((224, 298), 0..224, 37..261));
    }
}

#[test]
fn what_a_processor_cannot_mean_is_refused() {
    let config = config(COMPVIS_NEW);
    for (text, words) in [
        (r#"{"crop_size": 225}"#, "crop_size 225x225 is more than size, 224x224"),
        (r#"{"do_center_crop": false}"#, "do_center_crop"),
        (r#"{"size": 256, "crop_size": 256}"#, "size is 256x256, but the network reads 224x224"),
        (r#"{"resample": 0}"#, "resample 0"),
        (r#"{"image_std": [0.0, 1.0, 1.0]}"#, "image_std"),
    ] {
        let refusal = processing(text, &config).expect_err("a refusal");
        assert!(refusal.contains(words), "{text}: {refusal}");
    }
    // As pipelines that crop less than they resize write it.
    assert!(processing(r#"{"size": {"shortest_edge": 256}, "crop_size": 224}"#, &config).is_ok());
}

#[test]
fn sizes_that_nothing_could_hold_are_refused() {
    for (from, to) in [
        ("\"hidden_size\": 1024", "\"hidden_size\": 1000000000"),
        ("\"patch_size\": 14", "\"patch_size\": 0"),
    ] {
        let refusal = Config::parse(COMPVIS_NEW.replace(from, to).as_bytes()).expect_err("a refusal");
        assert!(refusal.contains("a size is"), "{refusal}");
    }
    let other = COMPVIS_NEW.replace("StableDiffusionSafetyChecker", "CLIPModel");
    let refusal = Config::parse(other.as_bytes()).expect_err("a refusal");
    assert!(refusal.contains("model_type is \"clip\"") && refusal.contains("CLIPModel"), "{refusal}");
}

/// A strip is not enlarged as a whole for the middle of it.
#[test]
fn a_strip_costs_no_more_than_its_middle() {
    let config = config(COMPVIS_NEW);
    let processing = processing(COMPVIS_PROCESSORS[0], &config).expect("a processor");
    let strip = crate::Image { width: 14_000, height: 1, rgb: vec![9; 3 * 14_000] };
    let pixels = Preprocessor::new(processing).pixels(&strip).expect("pixels");
    assert_eq!(pixels.dims(), [3, 224, 224]);
}
