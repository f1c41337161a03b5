//! Text to token ids, padded or cut to a length, as transformers does it.

use crate::config;
use crate::files::ModelFiles;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, TruncationParams};

/// One encoder's tokenizer with its pad token.
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pad: u32,
    model_max_length: Option<usize>,
    name: String,
}

/// What CLIP's words are made of (transformers `tokenization_clip.py`).
const CLIP_WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// `tokenizer_config.json`.
#[derive(Debug, Default, Deserialize)]
struct TokenizerConfig {
    added_tokens_decoder: Option<BTreeMap<String, Special>>,
    bos_token: Option<Special>,
    eos_token: Option<Special>,
    unk_token: Option<Special>,
    pad_token: Option<Special>,
    model_max_length: Option<f64>,
}

/// `special_tokens_map.json`, where repositories of older versions have what `tokenizer_config.json` lacks.
#[derive(Debug, Default, Deserialize)]
struct SpecialTokensMap {
    bos_token: Option<Special>,
    eos_token: Option<Special>,
    unk_token: Option<Special>,
    pad_token: Option<Special>,
}

/// A special token, as text or spelled out.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Special {
    Text(String),
    Token {
        content: String,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        normalized: bool,
        #[serde(default = "yes")]
        special: bool,
    },
}

fn yes() -> bool {
    true
}

impl Special {
    fn content(&self) -> &str {
        match self {
            Self::Text(content) | Self::Token { content, .. } => content,
        }
    }

    fn added(&self) -> AddedToken {
        match self {
            Self::Text(content) => AddedToken::from(content, true),
            Self::Token { content, lstrip, rstrip, single_word, normalized, special } => {
                AddedToken::from(content, *special)
                    .lstrip(*lstrip)
                    .rstrip(*rstrip)
                    .single_word(*single_word)
                    .normalized(*normalized)
            }
        }
    }
}

impl TokenizerConfig {
    /// transformers reads the map only beside a config that spells out no added tokens, and then it overrides
    /// (`PreTrainedTokenizerBase._from_pretrained`).
    fn read(files: &ModelFiles, part: &str) -> Result<Self> {
        let mut config: Self = config::read(files, &format!("{part}/tokenizer_config.json"))?;
        let path = format!("{part}/special_tokens_map.json");
        if config.added_tokens_decoder.is_none() && files.exists(&path) {
            let map: SpecialTokensMap = config::read(files, &path)?;
            config.bos_token = map.bos_token.or(config.bos_token);
            config.eos_token = map.eos_token.or(config.eos_token);
            config.unk_token = map.unk_token.or(config.unk_token);
            config.pad_token = map.pad_token.or(config.pad_token);
        }
        Ok(config)
    }

    /// transformers writes 1e30 where a tokenizer has no limit.
    fn max_length(&self) -> Option<usize> {
        self.model_max_length.filter(|length| *length < 1e6).map(|length| length as usize)
    }
}

impl Tokenizer {
    /// A tokenizer with a `tokenizer.json`.
    pub(crate) fn json(files: &ModelFiles, part: &str) -> Result<Self> {
        let path = format!("{part}/tokenizer.json");
        let inner = tokenizers::Tokenizer::from_bytes(files.read(&path)?)
            .map_err(|e| Error::Model(format!("{}: {e}", files.display(&path))))?;
        Self::new(files, part, inner, &TokenizerConfig::read(files, part)?)
    }

    /// CLIP's: from `tokenizer.json`, or built from `vocab.json` and `merges.txt`.
    pub(crate) fn clip(files: &ModelFiles, part: &str) -> Result<Self> {
        if files.exists(&format!("{part}/tokenizer.json")) {
            return Self::json(files, part);
        }
        let config = TokenizerConfig::read(files, part)?;
        let inner = build_clip(files, part, &config)?;
        Self::new(files, part, inner, &config)
    }

    fn new(
        files: &ModelFiles,
        part: &str,
        mut inner: tokenizers::Tokenizer,
        config: &TokenizerConfig,
    ) -> Result<Self> {
        inner.with_padding(None);
        let name = files.display(part);
        let Some(pad) = &config.pad_token else {
            return Err(Error::Model(format!(
                "{name}/tokenizer_config.json has no pad_token, nor has a special_tokens_map.json: use the tokenizer \
                 of the model's own repository"
            )));
        };
        let Some(id) = inner.token_to_id(pad.content()) else {
            return Err(Error::Model(format!("{name}: pad_token \"{}\" is not a token", pad.content())));
        };
        Ok(Self { inner, pad: id, model_max_length: config.max_length(), name })
    }

    /// Refuses a tokenizer whose ids go beyond the encoder's table of `rows` embeddings.
    pub(crate) fn fit(self, rows: usize) -> Result<Self> {
        let highest = self.inner.get_vocab(true).into_values().max().unwrap_or_default();
        if highest as usize >= rows {
            let name = &self.name;
            return Err(Error::Model(format!(
                "{name} has ids up to {highest}, but its encoder's vocab_size is {rows}"
            )));
        }
        Ok(self)
    }

    pub(crate) fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
    }

    /// Ids of each text, exactly `length` of them: longer ones are cut but keep their last special token.
    pub(crate) fn encode(&self, texts: &[&str], length: usize) -> Result<Vec<Vec<u32>>> {
        let mut tokenizer = self.inner.clone();
        let failed = |e: tokenizers::Error| Error::Model(format!("{}: {e}", self.name));
        let cut = TruncationParams { max_length: length, ..Default::default() };
        tokenizer.with_truncation(Some(cut)).map_err(failed)?;
        let ids = |text: &&str| {
            let mut ids = tokenizer.encode(*text, true).map_err(failed)?.get_ids().to_vec();
            ids.resize(length, self.pad);
            Ok(ids)
        };
        texts.iter().map(ids).collect()
    }
}

impl Tokenizer {
    /// The end of a text that [`Self::encode`] cuts off at this length, from the first token that is left out; `None` if
    /// nothing is. The last place is the token's that ends every text (diffusers' warning in `encode_prompt`).
    pub(crate) fn dropped(&self, text: &str, length: usize) -> Result<Option<String>> {
        let whole = self.inner.encode(text, true).map_err(|e| Error::Model(format!("{}: {e}", self.name)))?;
        if whole.len() <= length {
            return Ok(None);
        }
        let first = whole.get_offsets().get(length.saturating_sub(1)).map_or(0, |(from, _)| *from);
        let dropped = text.get(first..).unwrap_or_default().trim();
        Ok((!dropped.is_empty()).then(|| dropped.to_owned()))
    }
}

/// transformers' `CLIPTokenizer.__init__`.
fn build_clip(files: &ModelFiles, part: &str, config: &TokenizerConfig) -> Result<tokenizers::Tokenizer> {
    let failed = |e: tokenizers::Error| Error::Model(format!("{}: {e}", files.display(part)));
    let token = |special: &Option<Special>, default: &str| {
        special.as_ref().map_or(default.to_string(), |special| special.content().to_string())
    };
    let unknown = token(&config.unk_token, "<|endoftext|>");
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary(files, part)?, merges(files, part)?)
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".into())
        .unk_token(unknown)
        .build()
        .map_err(failed)?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ").map_err(failed)?;
    let normalizers = Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()]);
    tokenizer.with_normalizer(Some(normalizers)).map_err(failed)?;
    let words = Split::new(SplitPattern::Regex(CLIP_WORDS.into()), SplitDelimiterBehavior::Removed, true);
    let bytes = ByteLevel::default().add_prefix_space(false);
    let words = PreTokenizers::new(vec![words.map_err(failed)?.into(), bytes.into()]);
    tokenizer.with_pre_tokenizer(Some(words));
    let (bos, eos) = (token(&config.bos_token, "<|startoftext|>"), token(&config.eos_token, "<|endoftext|>"));
    let id = |content: &str| {
        tokenizer
            .token_to_id(content)
            .ok_or_else(|| Error::Model(format!("{}: \"{content}\" is not a token", files.display(part))))
    };
    let frame = RobertaProcessing::new((eos.clone(), id(&eos)?), (bos.clone(), id(&bos)?));
    tokenizer.with_post_processor(Some(frame.trim_offsets(false).add_prefix_space(false)));
    add_special_tokens(&mut tokenizer, config).map_err(failed)?;
    Ok(tokenizer)
}

/// Special tokens are cut out of the text before anything else: CLIP-G's pad token "!" is one of them.
fn add_special_tokens(
    tokenizer: &mut tokenizers::Tokenizer,
    config: &TokenizerConfig,
) -> Result<(), tokenizers::Error> {
    let spelled: Vec<&Special> =
        config.added_tokens_decoder.iter().flatten().map(|(_, token)| token).collect();
    let named = [&config.bos_token, &config.eos_token, &config.unk_token, &config.pad_token];
    let named = named
        .into_iter()
        .flatten()
        .filter(|token| !spelled.iter().any(|spelled| spelled.content() == token.content()));
    let tokens: Vec<AddedToken> = spelled.iter().copied().chain(named).map(Special::added).collect();
    tokenizer.add_special_tokens(tokens)?;
    Ok(())
}

fn vocabulary(files: &ModelFiles, part: &str) -> Result<Vocab> {
    let entries: std::collections::HashMap<String, u32> = config::read(files, &format!("{part}/vocab.json"))?;
    Ok(entries.into_iter().collect())
}

/// Lines of two symbols after an optional `#version` line.
fn merges(files: &ModelFiles, part: &str) -> Result<Merges> {
    let path = format!("{part}/merges.txt");
    let bytes = files.read(&path)?;
    let text = String::from_utf8_lossy(&bytes);
    let pair = |line: &str| {
        line.split_once(' ')
            .map(|(left, right)| (left.to_string(), right.trim_end().to_string()))
            .ok_or_else(|| Error::Model(format!("{}: \"{line}\" is not a merge", files.display(&path))))
    };
    text.lines().filter(|line| !line.starts_with("#version") && !line.is_empty()).map(pair).collect()
}
