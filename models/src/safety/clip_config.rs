//! `config.json` of CompVis' checker: transformers' `CLIPConfig`, of which the vision half and the projection count.

use crate::vision::{Shape, Sides, check_images};
use serde::Deserialize;

/// The whole file. Its text half says nothing about images.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "File")]
pub(super) struct ClipConfig {
    pub(super) projection_dim: usize,
    vision: VisionConfig,
}

/// As it is written. What is left out has transformers' default.
#[derive(Deserialize)]
#[serde(default)]
struct File {
    projection_dim: usize,
    vision_config: Option<VisionConfig>,
    /// Until 4.27 sizes were written here too. Where it is there it counts, as in transformers.
    vision_config_dict: Option<VisionConfig>,
}

impl Default for File {
    fn default() -> Self {
        Self { projection_dim: 512, vision_config: None, vision_config_dict: None }
    }
}

impl From<File> for ClipConfig {
    fn from(file: File) -> Self {
        let vision = file.vision_config_dict.or(file.vision_config).unwrap_or_default();
        Self { projection_dim: file.projection_dim, vision }
    }
}

/// `vision_config` (transformers `CLIPVisionConfig`).
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct VisionConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    image_size: Sides,
    patch_size: Sides,
    num_channels: usize,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            image_size: Sides::One(224),
            patch_size: Sides::One(32),
            num_channels: 3,
        }
    }
}

impl ClipConfig {
    pub(super) fn shape(&self) -> Shape {
        let (height, width) = self.vision.image_size.both();
        Shape {
            height,
            width,
            patch: self.vision.patch_size.both().0,
            hidden: self.vision.hidden_size,
            inner: self.vision.intermediate_size,
            heads: self.vision.num_attention_heads,
            layers: self.vision.num_hidden_layers,
            act: self.vision.hidden_act.clone(),
            eps: self.vision.layer_norm_eps,
            qkv_bias: true,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        check_images(self.vision.patch_size, self.vision.num_channels)?;
        if self.projection_dim == 0 {
            return Err("projection_dim is zero".into());
        }
        self.shape().check_whole()
    }
}
