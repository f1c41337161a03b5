//! The config files of a classifier: `config.json` and `preprocessor_config.json`, as transformers writes them.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Names of the label that makes a picture unsafe, in any case.
const UNSAFE: [&str; 2] = ["nsfw", "unsafe"];

/// Pillow's number for bilinear.
const BILINEAR: u32 = 2;

/// `config.json` (transformers `ViTConfig`); what is left out has transformers' default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct VitConfig {
    model_type: String,
    pub(super) hidden_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) intermediate_size: usize,
    pub(super) hidden_act: String,
    pub(super) layer_norm_eps: f64,
    image_size: Sides,
    patch_size: Sides,
    num_channels: usize,
    pub(super) qkv_bias: bool,
    id2label: BTreeMap<usize, String>,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            model_type: "vit".into(),
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-12,
            image_size: Sides::One(224),
            patch_size: Sides::One(16),
            num_channels: 3,
            qkv_bias: true,
            id2label: [(0, "LABEL_0".into()), (1, "LABEL_1".into())].into(),
        }
    }
}

/// One number for both sides, or two.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Sides {
    One(usize),
    Two([usize; 2]),
    Named { height: usize, width: usize },
}

impl Sides {
    /// `(height, width)`.
    fn both(self) -> (usize, usize) {
        match self {
            Self::One(side) => (side, side),
            Self::Two([height, width]) | Self::Named { height, width } => (height, width),
        }
    }
}

impl VitConfig {
    /// `(height, width)` in pixels.
    pub(super) fn image(&self) -> (usize, usize) {
        self.image_size.both()
    }

    /// Pixels of a patch's side.
    pub(super) fn patch(&self) -> usize {
        self.patch_size.both().0
    }

    pub(super) fn labels(&self) -> usize {
        self.id2label.len()
    }

    /// The index of the label that makes a picture unsafe.
    pub(super) fn unsafe_label(&self) -> Result<usize, String> {
        let is_unsafe = |label: &str| UNSAFE.iter().any(|name| label.eq_ignore_ascii_case(name));
        let mut found = self.id2label.iter().filter(|(_, label)| is_unsafe(label)).map(|(id, _)| *id);
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id),
            _ => {
                let labels: Vec<_> = self.id2label.values().map(|label| format!("\"{label}\"")).collect();
                let labels = labels.join(", ");
                Err(format!("id2label must have one label \"nsfw\" or \"unsafe\", but it has {labels}"))
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.model_type != "vit" {
            return Err(format!(
                "model_type is \"{}\", but this version checks pictures with \"vit\" classifiers only",
                self.model_type
            ));
        }
        let ((height, width), (patch, patch_width)) = (self.image(), self.patch_size.both());
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        let sizes = [height, width, patch, hidden, heads, self.num_hidden_layers, self.intermediate_size];
        if sizes.contains(&0) {
            return Err("a size is zero".into());
        }
        if patch != patch_width || height % patch != 0 || width % patch != 0 {
            return Err(format!("{height}x{width} pixels are not square patches of {patch}x{patch_width}"));
        }
        if hidden % heads != 0 {
            return Err(format!("hidden_size {hidden} does not divide into {heads} heads"));
        }
        if self.num_channels != 3 {
            return Err(format!("num_channels is {}, but pictures have 3", self.num_channels));
        }
        if self.id2label.keys().copied().ne(0..self.id2label.len()) {
            return Err("the ids of id2label do not count up from 0".into());
        }
        self.unsafe_label().map(|_| ())
    }
}

/// `preprocessor_config.json` (transformers `ViTImageProcessor`); what is left out has its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct PreprocessorConfig {
    do_resize: bool,
    do_center_crop: bool,
    do_rescale: bool,
    do_normalize: bool,
    size: Sides,
    resample: u32,
    rescale_factor: f64,
    image_mean: [f32; 3],
    image_std: [f32; 3],
}

impl Default for PreprocessorConfig {
    fn default() -> Self {
        Self {
            do_resize: true,
            do_center_crop: false,
            do_rescale: true,
            do_normalize: true,
            size: Sides::One(224),
            resample: BILINEAR,
            rescale_factor: 1.0 / 255.0,
            image_mean: [0.5; 3],
            image_std: [0.5; 3],
        }
    }
}

impl PreprocessorConfig {
    /// `(height, width)` in pixels.
    pub(super) fn size(&self) -> (usize, usize) {
        self.size.both()
    }

    /// What a byte is multiplied by.
    pub(super) fn factor(&self) -> f64 {
        if self.do_rescale { self.rescale_factor } else { 1.0 }
    }

    /// Mean and deviation by channel.
    pub(super) fn normalisation(&self) -> ([f32; 3], [f32; 3]) {
        if self.do_normalize { (self.image_mean, self.image_std) } else { ([0.0; 3], [1.0; 3]) }
    }

    pub(super) fn check(&self, model: &VitConfig) -> Result<(), String> {
        if !self.do_resize || self.do_center_crop {
            return Err("pictures must be resized (do_resize) and not cropped (do_center_crop)".into());
        }
        if self.resample != BILINEAR {
            return Err(format!("resample {} is not supported: only 2 (bilinear)", self.resample));
        }
        let ((height, width), (wanted_height, wanted_width)) = (self.size(), model.image());
        if (height, width) != (wanted_height, wanted_width) {
            return Err(format!(
                "size is {height}x{width}, but the classifier reads {wanted_height}x{wanted_width}"
            ));
        }
        let (mean, deviation) = self.normalisation();
        let finite = |value: &f32| value.is_finite();
        if !self.factor().is_finite() || !mean.iter().all(finite) || deviation.contains(&0.0) {
            return Err("rescale_factor, image_mean and image_std must be numbers, the last not zero".into());
        }
        Ok(())
    }
}
