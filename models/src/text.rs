//! Three text encoders to one conditioning (diffusers `StableDiffusion3Pipeline.encode_prompt`).

mod clip;
mod t5;
mod tokenize;

use crate::config::{self, ClipConfig, T5Config, TransformerConfig};
use crate::files::ModelFiles;
use crate::weights::{Target, Weights};
use crate::{Error, Result};
use candle_core::{D, Device, Tensor};
use clip::Clip;
use t5::T5;
use tokenize::Tokenizer;

/// What the transformer hears of the prompts.
#[derive(Clone)]
pub(crate) struct TextConditioning {
    /// `[B, 77 + T, joint_attention_dim]`: CLIP channels padded with zeros, then T5.
    pub(crate) context: Tensor,
    /// `[B, pooled_projection_dim]`: pooled CLIP-L beside pooled CLIP-G.
    pub(crate) pooled: Tensor,
}

impl TextConditioning {
    /// The same in another place.
    pub(crate) fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self { context: self.context.to_device(device)?, pooled: self.pooled.to_device(device)? })
    }
}

/// CLIP-L, CLIP-G and, unless the directory leaves it out, T5.
pub(crate) struct TextEncoders {
    clips: [(Tokenizer, Clip); 2],
    clip_tokens: usize,
    t5: Option<(Tokenizer, T5)>,
    width: usize,
    target: Target,
}

impl TextEncoders {
    /// Loads every encoder, adding what did not fit to `problems`.
    pub(crate) fn load(
        files: &ModelFiles,
        target: &Target,
        transformer: &TransformerConfig,
        has_t5: bool,
        problems: &mut Vec<String>,
    ) -> Result<Self> {
        let first = load_clip(files, target, "", problems)?;
        let second = load_clip(files, target, "_2", problems)?;
        let t5 = if has_t5 { Some(load_t5(files, target, problems)?) } else { None };
        let clips = [first, second];
        check_widths(&clips, t5.as_ref().map(|(_, t5)| t5.width()), transformer)
            .map_err(|why| Error::Model(format!("{}: {why}", files.display("transformer/config.json"))))?;
        let positions = clips.iter().map(|(_, clip)| clip.positions()).min().unwrap_or_default();
        let clip_tokens = clips[0].0.model_max_length().unwrap_or(positions);
        if clip_tokens < 2 || clip_tokens > positions {
            let path = files.display("tokenizer/tokenizer_config.json");
            return Err(Error::Model(format!(
                "{path}: model_max_length is {clip_tokens}, but the encoders have {positions} positions"
            )));
        }
        Ok(Self { clips, clip_tokens, t5, width: transformer.joint_attention_dim, target: target.clone() })
    }

    /// Ids of one text for each encoder.
    pub(crate) fn token_ids(&self, text: &str, t5_tokens: usize) -> Result<[Vec<u32>; 3]> {
        let one = |tokenizer: &Tokenizer, length| tokenizer.encode(&[text], length).map(|ids| ids.concat());
        let [(first, _), (second, _)] = &self.clips;
        let t5 = self.t5.as_ref().map(|(tokenizer, _)| one(tokenizer, t5_tokens)).transpose()?;
        Ok([one(first, self.clip_tokens)?, one(second, self.clip_tokens)?, t5.unwrap_or_default()])
    }

    /// Encodes each text with all encoders; `t5_tokens` is the length of T5's part, with or without a T5.
    pub(crate) fn encode(&self, texts: &[&str], t5_tokens: usize) -> Result<TextConditioning> {
        let (mut hidden, mut pooled) = (Vec::new(), Vec::new());
        for (tokenizer, clip) in &self.clips {
            let ids = tokenizer.encode(texts, self.clip_tokens)?;
            let encoded = clip.forward(&ids)?;
            hidden.push(encoded.hidden);
            pooled.push(encoded.pooled);
        }
        let hidden = Tensor::cat(&hidden, D::Minus1)?;
        let missing = self.width - hidden.dim(D::Minus1)?;
        let hidden = hidden.pad_with_zeros(D::Minus1, 0, missing)?;
        let t5 = match &self.t5 {
            Some((tokenizer, t5)) => t5.forward(&tokenizer.encode(texts, t5_tokens)?)?,
            None => {
                Tensor::zeros((texts.len(), t5_tokens, self.width), self.target.dtype, &self.target.device)?
            }
        };
        let context = Tensor::cat(&[hidden, t5], 1)?;
        Ok(TextConditioning { context, pooled: Tensor::cat(&pooled, D::Minus1)? })
    }
}

fn load_clip(
    files: &ModelFiles,
    target: &Target,
    suffix: &str,
    problems: &mut Vec<String>,
) -> Result<(Tokenizer, Clip)> {
    let part = format!("text_encoder{suffix}");
    let path = format!("{part}/config.json");
    let config: ClipConfig = config::read(files, &path)?;
    config.check().map_err(|why| Error::Model(format!("{}: {why}", files.display(&path))))?;
    let weights = Weights::open(files, &part, "model", target)?;
    weights.ignore(|name| name.ends_with("position_ids"));
    let clip =
        Clip::load(&weights, &config).map_err(|error| Error::from(error).blaming(files.display(&path)))?;
    problems.extend(weights.problems());
    Ok((Tokenizer::clip(files, &format!("tokenizer{suffix}"))?.fit(config.vocab_size)?, clip))
}

fn load_t5(files: &ModelFiles, target: &Target, problems: &mut Vec<String>) -> Result<(Tokenizer, T5)> {
    let path = "text_encoder_3/config.json";
    let config: T5Config = config::read(files, path)?;
    config.check().map_err(|why| Error::Model(format!("{}: {why}", files.display(path))))?;
    let weights = Weights::open(files, "text_encoder_3", "model", target)?;
    let t5 = T5::load(&weights, &config).map_err(|error| Error::from(error).blaming(files.display(path)))?;
    problems.extend(weights.problems());
    Ok((Tokenizer::json(files, "tokenizer_3")?.fit(config.vocab_size)?, t5))
}

/// The encoders' widths must add up to what the transformer reads.
fn check_widths(
    clips: &[(Tokenizer, Clip); 2],
    t5: Option<usize>,
    transformer: &TransformerConfig,
) -> Result<(), String> {
    let hidden: usize = clips.iter().map(|(_, clip)| clip.width()).sum();
    let pooled: usize = clips.iter().map(|(_, clip)| clip.projection()).sum();
    let joint = transformer.joint_attention_dim;
    if hidden > joint {
        return Err(format!(
            "joint_attention_dim is {joint}, but the CLIP encoders are {hidden} wide together"
        ));
    }
    if let Some(width) = t5.filter(|width| *width != joint) {
        return Err(format!("joint_attention_dim is {joint}, but text_encoder_3's d_model is {width}"));
    }
    if pooled != transformer.pooled_projection_dim {
        let expected = transformer.pooled_projection_dim;
        return Err(format!(
            "pooled_projection_dim is {expected}, but the CLIP projections add up to {pooled}"
        ));
    }
    Ok(())
}
