//! Three text encoders to one conditioning (diffusers `StableDiffusion3Pipeline.encode_prompt`).

mod clip;
mod t5;
mod tokenize;

use crate::config::{self, ClipConfig, T5Config, TransformerConfig};
use crate::error::one_line;
use crate::files::ModelFiles;
use crate::low_rank::{Network, Site};
use crate::target::Target;
use crate::weights::Weights;
use crate::{Error, Result, Stage, finite};
use candle_core::{D, Device, Tensor};
use clip::Clip;
use t5::T5;
pub(crate) use tokenize::Tokenizer;

/// The conditioning that the transformer gets of the prompts.
#[derive(Clone)]
pub(crate) struct TextConditioning {
    /// `[B, 77 + T, joint_attention_dim]`: CLIP channels padded with zeros, then T5.
    pub(crate) context: Tensor,
    /// `[B, pooled_projection_dim]`: pooled CLIP-L, then pooled CLIP-G.
    pub(crate) pooled: Tensor,
}

impl TextConditioning {
    /// The same in another place.
    pub(crate) fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self { context: self.context.to_device(device)?, pooled: self.pooled.to_device(device)? })
    }
}

/// What encoders do not see of a text that is longer than they read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Their names.
    pub(crate) encoders: &'static str,
    /// Tokens that they read.
    pub(crate) tokens: usize,
    /// The end of the text, from the first token that is left out.
    pub(crate) dropped: String,
}

/// Characters of a text's end that are repeated when it is said to be cut.
const DROPPED_CHARS: usize = 400;

impl Cut {
    /// For a message; `name` is what the text is.
    pub(crate) fn words(&self, name: &str) -> String {
        let Self { encoders, tokens, dropped } = self;
        let dropped = one_line(dropped, DROPPED_CHARS);
        format!("the {name} is cut after {tokens} tokens for {encoders}: \"{dropped}\" is left out")
    }
}

/// CLIP-L, CLIP-G and, unless the directory leaves it out, T5.
pub(crate) struct TextEncoders {
    clips: [(Tokenizer, Clip); 2],
    clip_tokens: usize,
    t5: Option<(Tokenizer, T5)>,
    width: usize,
    /// The layers of each encoder that adapters can change.
    sites: Vec<(Network, Vec<Site>)>,
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
        let (first, first_sites) = load_clip(files, target, "", problems)?;
        let (second, second_sites) = load_clip(files, target, "_2", problems)?;
        let mut sites = vec![(Network::ClipL, first_sites), (Network::ClipG, second_sites)];
        let t5 = if has_t5 { Some(load_t5(files, target, problems)?) } else { None };
        let t5 = t5.map(|(t5, t5_sites)| {
            sites.push((Network::T5, t5_sites));
            t5
        });
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
        let (width, target) = (transformer.joint_attention_dim, target.clone());
        Ok(Self { clips, clip_tokens, t5, width, sites, target })
    }

    /// The layers of each encoder that adapters can change; once.
    pub(crate) fn take_sites(&mut self) -> Vec<(Network, Vec<Site>)> {
        std::mem::take(&mut self.sites)
    }

    /// Ids of one text for each encoder.
    pub(crate) fn token_ids(&self, text: &str, t5_tokens: usize) -> Result<[Vec<u32>; 3]> {
        let one = |tokenizer: &Tokenizer, length| tokenizer.encode(&[text], length).map(|ids| ids.concat());
        let [(first, _), (second, _)] = &self.clips;
        let t5 = self.t5.as_ref().map(|(tokenizer, _)| one(tokenizer, t5_tokens)).transpose()?;
        Ok([one(first, self.clip_tokens)?, one(second, self.clip_tokens)?, t5.unwrap_or_default()])
    }

    /// What each encoder does not see of a text.
    pub(crate) fn cuts(&self, text: &str, t5_tokens: usize) -> Result<Vec<Cut>> {
        let tokens = self.clip_tokens;
        let [first, second] =
            [&self.clips[0].0, &self.clips[1].0].map(|tokenizer| tokenizer.dropped(text, tokens));
        let (first, second) = (first?, second?);
        let both = first == second;
        let t5 = self.t5.as_ref().map(|(tokenizer, _)| tokenizer.dropped(text, t5_tokens)).transpose()?;
        let found = [
            (if both { "CLIP-L and CLIP-G" } else { "CLIP-L" }, tokens, first),
            ("CLIP-G", tokens, second.filter(|_| !both)),
            ("T5", t5_tokens, t5.flatten()),
        ];
        let cut = |(encoders, tokens, dropped): (_, _, Option<String>)| {
            Some(Cut { encoders, tokens, dropped: dropped? })
        };
        Ok(found.into_iter().filter_map(cut).collect())
    }

    /// Refuses one text's encoding, on the host, if an encoder made numbers of it that are not finite.
    pub(crate) fn check(&self, found: &TextConditioning) -> Result<()> {
        let clip_rows = found.context.narrow(1, 0, self.clip_tokens)?;
        let (mut hidden, mut pooled) = (0, 0);
        for ((_, clip), stage) in self.clips.iter().zip([Stage::ClipL, Stage::ClipG]) {
            finite::check(&clip_rows.narrow(2, hidden, clip.width())?, stage)?;
            finite::check(&found.pooled.narrow(1, pooled, clip.projection())?, stage)?;
            hidden += clip.width();
            pooled += clip.projection();
        }
        let t5_rows = found.context.dim(1)? - self.clip_tokens;
        finite::check(&found.context.narrow(1, self.clip_tokens, t5_rows)?, Stage::T5)
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
) -> Result<((Tokenizer, Clip), Vec<Site>)> {
    let part = format!("text_encoder{suffix}");
    let path = format!("{part}/config.json");
    let config: ClipConfig = config::read_component(files, &part, "config.json")?;
    config.check().map_err(|why| Error::Model(format!("{}: {why}", files.display(&path))))?;
    let weights = Weights::open(files, &part, "model", target)?;
    weights.ignore(|name| name.ends_with("position_ids"));
    let clip =
        Clip::load(&weights, &config).map_err(|error| Error::from(error).blaming(files.display(&path)))?;
    let sites = weights.take_sites();
    problems.extend(weights.problems());
    Ok(((Tokenizer::clip(files, &format!("tokenizer{suffix}"))?.fit(config.vocab_size)?, clip), sites))
}

fn load_t5(
    files: &ModelFiles,
    target: &Target,
    problems: &mut Vec<String>,
) -> Result<((Tokenizer, T5), Vec<Site>)> {
    let path = "text_encoder_3/config.json";
    let config: T5Config = config::read_component(files, "text_encoder_3", "config.json")?;
    config.check().map_err(|why| Error::Model(format!("{}: {why}", files.display(path))))?;
    let weights = Weights::open(files, "text_encoder_3", "model", target)?;
    let t5 = T5::load(&weights, &config).map_err(|error| Error::from(error).blaming(files.display(path)))?;
    let sites = weights.take_sites();
    problems.extend(weights.problems());
    Ok(((Tokenizer::json(files, "tokenizer_3")?.fit(config.vocab_size)?, t5), sites))
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
