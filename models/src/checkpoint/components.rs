//! What lies in a file of weights, identified by its tensors' names and shapes, never by the file's name.

use super::header::Header;
use super::names::NamingScheme;
use super::quantized_formats;
use std::fmt;

/// A network of SD3.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The denoiser.
    Transformer,
    /// Encoder and decoder of latents.
    Vae,
    /// The text encoder of width 768.
    ClipL,
    /// The text encoder of width 1280.
    ClipG,
    /// The third text encoder, which a model can do without.
    T5,
    /// A network beside the transformer, which is no part of a model.
    ControlNet,
}

impl Component {
    /// The parts of a model.
    pub(crate) const OF_MODEL: [Self; 5] = [Self::Transformer, Self::Vae, Self::ClipL, Self::ClipG, Self::T5];

    /// The folder that a directory in the diffusers layout has it in.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::Vae => "vae",
            Self::ClipL => "text_encoder",
            Self::ClipG => "text_encoder_2",
            Self::T5 => "text_encoder_3",
            Self::ControlNet => "controlnet",
        }
    }
}

/// For display.
impl fmt::Display for Component {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Transformer => "transformer",
            Self::Vae => "VAE",
            Self::ClipL => "CLIP-L",
            Self::ClipG => "CLIP-G",
            Self::T5 => "T5",
            Self::ControlNet => "ControlNet",
        })
    }
}

/// A part inside a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComponentInFile {
    pub(crate) part: Component,
    /// What all its tensors' names begin with.
    pub(crate) prefix: String,
    pub(crate) names: NamingScheme,
}

const QKV: &str = "context_block.attn.qkv.weight";
const CLIP: &str = "text_model.encoder.layers.0.self_attn.q_proj.weight";
const T5: &str = "encoder.block.0.layer.0.SelfAttention.q.weight";
/// Blocks as Stability names them, whose outputs diffusers names.
const CONTROLNET: [&str; 2] = ["transformer_blocks.0.attn.qkv.weight", "controlnet_blocks.0.weight"];
const MID: &str = "decoder.mid.block_1.norm1.weight";
const MID_BLOCK: &str = "decoder.mid_block.resnets.0.norm1.weight";

/// The parts of SD3.5 in a file.
pub(crate) fn pieces(header: &Header) -> Vec<ComponentInFile> {
    let mut pieces = Vec::new();
    let mut add =
        |part, prefix: &str, names| pieces.push(ComponentInFile { part, prefix: prefix.into(), names });
    let has = |prefix: &str, name: &str| header.get(&format!("{prefix}{name}")).is_some();
    for prefix in ["model.diffusion_model.", ""] {
        let blocks = count(|block| has(prefix, &format!("joint_blocks.{block}.{QKV}")));
        if blocks > 0 {
            add(Component::Transformer, prefix, NamingScheme::Mmdit(blocks));
            break;
        }
    }
    for prefix in ["first_stage_model.", "vae.", ""] {
        if has(prefix, MID) {
            let levels = count(|level| has(prefix, &format!("decoder.up.{level}.block.0.norm1.weight")));
            add(Component::Vae, prefix, NamingScheme::Vae(levels));
            break;
        } else if has(prefix, MID_BLOCK) {
            add(Component::Vae, prefix, NamingScheme::Same);
            break;
        }
    }
    for (part, name, names) in
        [(Component::ClipL, "clip_l", NamingScheme::ClipL), (Component::ClipG, "clip_g", NamingScheme::Same)]
    {
        let prefix = format!("text_encoders.{name}.transformer.");
        if has(&prefix, CLIP) {
            add(part, &prefix, names);
        }
    }
    if has("", CLIP) {
        let (part, names) = if is_clip_g(header) {
            (Component::ClipG, NamingScheme::Same)
        } else {
            (Component::ClipL, NamingScheme::ClipL)
        };
        add(part, "", names);
    }
    for prefix in ["text_encoders.t5xxl.transformer.", ""] {
        if has(prefix, T5) {
            add(Component::T5, prefix, NamingScheme::Same);
            break;
        }
    }
    if has("", CONTROLNET[0]) && has("", CONTROLNET[1]) {
        add(Component::ControlNet, "", NamingScheme::ControlNet);
    }
    pieces
}

/// How many there are from 0 on, without a gap.
pub(crate) fn count(has: impl Fn(usize) -> bool) -> usize {
    (0..).take_while(|index| has(*index)).count()
}

/// Which CLIP a file of one is: the real ones differ in width, and only CLIP-G needs a projection.
fn is_clip_g(header: &Header) -> bool {
    match header.shape("text_model.embeddings.token_embedding.weight") {
        Some([_, 768]) => false,
        Some([_, 1280]) => true,
        _ => header.get("text_projection.weight").is_some(),
    }
}

/// What a file is that has no transformer of SD3.5, as far as names show, and what it is for.
pub(crate) fn kind(header: &Header) -> &'static str {
    let any = |test: &dyn Fn(&str) -> bool| header.names().any(test);
    let within =
        |words: &'static [&'static str]| any(&move |name: &str| words.iter().any(|word| name.contains(word)));
    let starts = |words: &'static [&'static str]| {
        any(&move |name: &str| words.iter().any(|word| name.starts_with(word)))
    };
    if quantized_formats::quantized(header).is_some() {
        return "a file of quantized weights, in a format that latentd does not read";
    }
    let pieces: Vec<Component> = pieces(header).iter().map(|piece| piece.part).collect();
    if pieces.contains(&Component::Transformer) {
        "a Stable Diffusion 3 checkpoint"
    } else if within(&["lora_up", "lora_down", "lora_A", "lora_B", ".lora.", "lora_unet", "hada_w", "lokr_w"])
    {
        "a LoRA, which changes a model and is none"
    } else if within(&["controlnet_", "control_model.", "input_hint_block", "zero_convs"]) {
        "a ControlNet"
    } else if within(&["double_blocks.0.img_attn", "single_transformer_blocks.0."]) {
        "a FLUX model"
    } else if starts(&[
        "conditioner.embedders.1.",
        "add_embedding.linear_1",
        "model.diffusion_model.label_emb.",
    ]) {
        "a Stable Diffusion XL model"
    } else if starts(&[
        "model.diffusion_model.input_blocks.",
        "cond_stage_model.",
        "down_blocks.0.attentions",
    ]) {
        "a Stable Diffusion 1 or 2 model"
    } else if within(&["transformer_blocks.0.attn.add_q_proj"]) {
        "a transformer in the diffusers layout, one folder of a model"
    } else if starts(&["vit.", "classifier.weight", "vision_model.", "concept_embeds"]) {
        "an image classifier, such as a safety checker"
    } else if within(&["model.layers.0.self_attn", "transformer.h.0.", "blk.0.attn_q"]) {
        "a language model"
    } else if starts(&["emb_params", "string_to_param"]) || any(&|name| matches!(name, "clip_l" | "clip_g")) {
        "a textual inversion, which adds words to a model and is none"
    } else if pieces.len() > 1 {
        "a file of text encoders, or of a VAE beside them"
    } else if pieces.contains(&Component::Vae) {
        "a VAE alone"
    } else if pieces.contains(&Component::ClipL) {
        "the text encoder CLIP-L"
    } else if pieces.contains(&Component::ClipG) {
        "the text encoder CLIP-G"
    } else if pieces.contains(&Component::T5) {
        "the text encoder T5"
    } else {
        "a file of tensors that latentd does not know"
    }
}
