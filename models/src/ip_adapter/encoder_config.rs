//! `config.json` of a SigLIP vision model, as transformers writes it.

use crate::config::json;
use crate::error::one_line;
use crate::vision::{Shape, Sides, check_images};
use serde::Deserialize;
use serde_json::Value;

/// The vision half (transformers `SiglipVisionConfig`). What is left out has transformers' default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct EncoderConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    image_size: usize,
    patch_size: Sides,
    num_channels: usize,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu_pytorch_tanh".into(),
            layer_norm_eps: 1e-6,
            image_size: 224,
            patch_size: Sides::One(16),
            num_channels: 3,
        }
    }
}

impl EncoderConfig {
    /// Of the file of a vision model, or of a whole SigLIP, of which the vision half counts.
    ///
    /// # Errors
    /// It is that of another network, or has no sizes of this one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = json::parse(bytes)?;
        let config: Self = match value["model_type"].as_str().unwrap_or_default() {
            "siglip_vision_model" => json::typed(&value)?,
            "siglip" if value["vision_config"].is_object() => json::typed(&value["vision_config"])?,
            "siglip" => Self::default(),
            other => {
                let other = one_line(other, 80);
                return Err(format!(
                    "its model_type is {other:?}, and IP-Adapters of SD3.5 read SigLIP: use google/siglip-so400m-patch14-384"
                ));
            }
        };
        check_images(config.patch_size, config.num_channels)?;
        config.shape().check()?;
        Ok(config)
    }

    pub(super) fn shape(&self) -> Shape {
        Shape {
            height: self.image_size,
            width: self.image_size,
            patch: self.patch_size.both().0,
            hidden: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            layers: self.num_hidden_layers,
            act: self.hidden_act.clone(),
            eps: self.layer_norm_eps,
            qkv_bias: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `config.json` of google/siglip-so400m-patch14-384, as far as it says anything of images.
    const SO400M: &[u8] = br#"{
        "architectures": ["SiglipModel"], "initializer_factor": 1.0, "model_type": "siglip",
        "text_config": { "hidden_size": 1152, "intermediate_size": 4304, "model_type": "siglip_text_model" },
        "vision_config": { "hidden_size": 1152, "image_size": 384, "intermediate_size": 4304,
            "model_type": "siglip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14 }
    }"#;

    #[test]
    fn the_published_encoder_is_read() {
        let shape = EncoderConfig::parse(SO400M).expect("a config").shape();
        assert_eq!((shape.hidden, shape.inner, shape.heads, shape.layers), (1152, 4304, 16, 27));
        assert_eq!(
            (shape.height, shape.patch, shape.act.as_str(), shape.eps),
            (384, 14, "gelu_pytorch_tanh", 1e-6)
        );
    }

    #[test]
    fn other_networks_are_refused() {
        for (text, words) in [
            (r#"{"model_type": "clip_vision_model"}"#, "its model_type is \"clip_vision_model\""),
            (r#"{"model_type": "siglip_vision_model", "patch_size": 500}"#, "is larger than 224x224"),
            (r#"{"model_type": "siglip_vision_model", "num_hidden_layers": 0}"#, "a size is zero"),
            ("{}", "its model_type is \"\""),
        ] {
            let refusal = EncoderConfig::parse(text.as_bytes()).expect_err("a refusal");
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
