//! The config file of a ControlNet, or what its tensors say where there is none.

use super::limits::{FEW, LAYERS, POSITIONS, WIDEST_HEAD, WIDTH, sizes};
use super::{TransformerConfig, json};
use crate::error::one_line;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The class that diffusers writes into the file.
const CLASS: &str = "SD3ControlNetModel";

/// `config.json` of a ControlNet; what it leaves out is diffusers' default (`SD3ControlNetModel.__init__`,
/// controlnet_sd3.py:76-97).
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct ControlNetConfig {
    pub(crate) patch_size: usize,
    pub(crate) in_channels: usize,
    pub(crate) num_layers: usize,
    pub(crate) attention_head_dim: usize,
    pub(crate) num_attention_heads: usize,
    /// `None`: its blocks read no text.
    pub(crate) joint_attention_dim: Option<usize>,
    pub(crate) caption_projection_dim: usize,
    pub(crate) pooled_projection_dim: usize,
    /// Null in what diffusers' conversion script makes of Stability's files, whose tokens get no positions
    /// (convert_sd3_controlnet_to_diffusers.py).
    #[serde(deserialize_with = "positions")]
    pub(crate) pos_embed_max_size: usize,
    /// Channels of the control image besides its latents, for a mask.
    pub(crate) extra_conditioning_channels: usize,
    pub(crate) dual_attention_layers: Vec<usize>,
    pub(crate) qk_norm: Option<String>,
    /// `None`: its tokens get no positions.
    pub(crate) pos_embed_type: Option<String>,
    /// `false`: it reads the transformer's tokens, with their positions.
    pub(crate) use_pos_embed: bool,
    /// Whether it gets zeros for the pooled text, and a control image from which the VAE's shift is not subtracted
    /// (pipeline_stable_diffusion_3_controlnet.py:1060-1064, 1139-1143).
    pub(crate) force_zeros_for_pooled_projection: bool,
    /// Whether its control image has pixels of 0.5 to 128 in place of -1 to 1, as Stability trained the one for canny edges
    /// (sd3_infer.py:398-399); only the original layout says so.
    #[serde(skip)]
    pub(crate) has_canny_pixels: bool,
}

impl Default for ControlNetConfig {
    fn default() -> Self {
        Self {
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: Some(4096),
            caption_projection_dim: 1152,
            pooled_projection_dim: 2048,
            pos_embed_max_size: 96,
            extra_conditioning_channels: 0,
            dual_attention_layers: Vec::new(),
            qk_norm: None,
            pos_embed_type: Some("sincos".into()),
            use_pos_embed: true,
            force_zeros_for_pooled_projection: true,
            has_canny_pixels: false,
        }
    }
}

fn positions<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(ControlNetConfig::default().pos_embed_max_size))
}

impl ControlNetConfig {
    /// Parses a config file.
    ///
    /// # Errors
    /// It is that of another class or of quantized weights, or has no sizes of a ControlNet.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = json::parse(bytes)?;
        if let Some(class) = value["_class_name"].as_str().filter(|class| *class != CLASS) {
            let class = one_line(class, 80);
            return Err(format!(
                "it is a {class}, and latentd runs {CLASS}: use one of Stable Diffusion 3.5"
            ));
        }
        if !value["quantization_config"].is_null() {
            return Err("its weights are quantized: use its files that are not".into());
        }
        let config: Self = json::parse(bytes)?;
        config.check_sizes()?;
        Ok(config)
    }

    fn check_sizes(&self) -> Result<(), String> {
        sizes([
            ("num_layers", self.num_layers, LAYERS),
            ("num_attention_heads", self.num_attention_heads, WIDTH),
            ("attention_head_dim", self.attention_head_dim, 1..=WIDEST_HEAD),
            ("patch_size", self.patch_size, FEW),
            ("in_channels", self.in_channels, WIDTH),
            ("extra_conditioning_channels", self.extra_conditioning_channels, 0..=*FEW.end()),
            ("joint_attention_dim", self.joint_attention_dim.unwrap_or(1), WIDTH),
            ("pooled_projection_dim", self.pooled_projection_dim, WIDTH),
            ("pos_embed_max_size", self.pos_embed_max_size, POSITIONS),
            ("the length of dual_attention_layers", self.dual_attention_layers.len(), 0..=*LAYERS.end()),
        ])
    }

    /// Refuses one that does not belong to the model, by the first size that differs.
    pub(crate) fn check(&self, model: &TransformerConfig) -> Result<(), String> {
        let width = self.num_attention_heads * self.attention_head_dim;
        let mut pairs = vec![
            ("width (num_attention_heads x attention_head_dim)", width, model.width()),
            ("patch_size", self.patch_size, model.patch_size),
            ("in_channels", self.in_channels, model.in_channels),
            ("pooled_projection_dim", self.pooled_projection_dim, model.pooled_projection_dim),
        ];
        if let Some(text) = self.joint_attention_dim {
            pairs.push(("joint_attention_dim", text, model.joint_attention_dim));
            pairs.push(("caption_projection_dim", self.caption_projection_dim, model.width()));
        }
        if let Some((name, ours, models)) = pairs.into_iter().find(|(_, ours, models)| ours != models) {
            return Err(format!(
                "its {name} is {ours}, and this model's is {models}: use a ControlNet of this model"
            ));
        }
        if self.extra_conditioning_channels != 0 {
            return Err(format!(
                "it has {} extra_conditioning_channels, for a mask beside the control image, which latentd does not \
                 give it: use a ControlNet without",
                self.extra_conditioning_channels
            ));
        }
        match (self.qk_norm.as_deref(), self.pos_embed_type.as_deref()) {
            (Some(other), _) if other != "rms_norm" => {
                Err(format!("its qk_norm is {:?}, and latentd has \"rms_norm\" or null", one_line(other, 40)))
            }
            (_, Some(other)) if other != "sincos" => Err(format!(
                "its pos_embed_type is {:?}, and latentd has \"sincos\" or null",
                one_line(other, 40)
            )),
            _ => Ok(()),
        }
    }

    /// What layers of a transformer are built from.
    pub(crate) fn transformer(&self) -> TransformerConfig {
        TransformerConfig {
            attention_head_dim: self.attention_head_dim,
            num_attention_heads: self.num_attention_heads,
            num_layers: self.num_layers,
            patch_size: self.patch_size,
            in_channels: self.in_channels,
            out_channels: None,
            joint_attention_dim: self.joint_attention_dim.unwrap_or_default(),
            caption_projection_dim: self.caption_projection_dim,
            pooled_projection_dim: self.pooled_projection_dim,
            pos_embed_max_size: self.pos_embed_max_size,
            dual_attention_layers: self.dual_attention_layers.clone(),
            qk_norm: self.qk_norm.clone(),
        }
    }

    /// What the names and shapes of a file's tensors say; heads, which they do not, are the model's. Published
    /// ControlNets without text get the pooled text, and those with text zeros, as diffusers' default has it.
    ///
    /// # Errors
    /// They are not those of a ControlNet.
    pub(crate) fn of_tensors<'a>(
        shape: impl Fn(&str) -> Option<&'a [usize]>,
        model: &TransformerConfig,
    ) -> Result<Self, String> {
        let layers = |name: &str| {
            let has = |index: &usize| shape(&name.replace('N', &index.to_string())).is_some();
            (0..*LAYERS.end()).take_while(has).count()
        };
        let size = |name: &str, place: usize| {
            let found = shape(name).and_then(|shape| shape.get(place)).copied();
            found.filter(|size| WIDTH.contains(size)).ok_or_else(|| format!("missing: {name}"))
        };
        let first = "transformer_blocks.0.attn";
        let input = size("pos_embed_input.proj.weight", 1)?;
        let width = size("controlnet_blocks.0.weight", 0)?;
        let text = "context_embedder.weight";
        let joint_attention_dim = shape(text).map(|_| size(text, 1)).transpose()?;
        let head = format!("{first}.norm_q.weight");
        let head = if shape(&head).is_some() { size(&head, 0)? } else { model.attention_head_dim };
        let positions = shape("pos_embed.pos_embed").and_then(|shape| shape.get(1)).copied();
        let dual = |index: &usize| shape(&format!("transformer_blocks.{index}.attn2.to_q.weight")).is_some();
        let num_layers = layers("controlnet_blocks.N.weight");
        let config = Self {
            patch_size: size("pos_embed_input.proj.weight", 2)?,
            in_channels: model.in_channels,
            num_layers,
            attention_head_dim: head,
            num_attention_heads: width / head,
            joint_attention_dim,
            caption_projection_dim: width,
            pooled_projection_dim: size("time_text_embed.text_embedder.linear_1.weight", 1)?,
            pos_embed_max_size: positions.unwrap_or(1).isqrt(),
            extra_conditioning_channels: input.saturating_sub(model.in_channels),
            dual_attention_layers: (0..num_layers).filter(dual).collect(),
            qk_norm: shape(&format!("{first}.norm_q.weight")).map(|_| "rms_norm".into()),
            pos_embed_type: positions.map(|_| "sincos".into()),
            use_pos_embed: shape("pos_embed.proj.weight").is_some(),
            force_zeros_for_pooled_projection: joint_attention_dim.is_some(),
            has_canny_pixels: false,
        };
        config.check_sizes()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_without_positions_may_say_so_by_null() {
        let text = br#"{"use_pos_embed": false, "pos_embed_type": null, "pos_embed_max_size": null}"#;
        let config = ControlNetConfig::parse(text).expect("a config");
        assert_eq!(config.pos_embed_max_size, ControlNetConfig::default().pos_embed_max_size);
    }

    #[test]
    fn a_head_that_no_kernel_computes_is_refused() {
        let text = br#"{"num_attention_heads": 1, "attention_head_dim": 1152}"#;
        let why = ControlNetConfig::parse(text).expect_err("it is too wide");
        assert!(why.contains("attention_head_dim"), "{why}");
    }
}
