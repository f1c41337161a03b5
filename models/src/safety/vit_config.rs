//! `config.json` of a ViT classifier, as transformers writes it.

use crate::vision::{Shape, Sides, check_images};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Names of the label that makes an image unsafe, in any case.
const UNSAFE: [&str; 2] = ["nsfw", "unsafe"];

/// `config.json` (transformers `ViTConfig`); what is left out has transformers' default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(super) struct VitConfig {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    image_size: Sides,
    patch_size: Sides,
    num_channels: usize,
    qkv_bias: bool,
    id2label: BTreeMap<usize, String>,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
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

impl VitConfig {
    pub(super) fn shape(&self) -> Shape {
        let (height, width) = self.image_size.both();
        Shape {
            height,
            width,
            patch: self.patch_size.both().0,
            hidden: self.hidden_size,
            inner: self.intermediate_size,
            heads: self.num_attention_heads,
            layers: self.num_hidden_layers,
            act: self.hidden_act.clone(),
            eps: self.layer_norm_eps,
            qkv_bias: self.qkv_bias,
        }
    }

    pub(super) fn labels(&self) -> usize {
        self.id2label.len()
    }

    /// The index of the label that makes an image unsafe.
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
        check_images(self.patch_size, self.num_channels)?;
        self.shape().check_whole()?;
        if self.id2label.keys().copied().ne(0..self.id2label.len()) {
            return Err("the ids of id2label do not count up from 0".into());
        }
        self.unsafe_label().map(|_| ())
    }
}
