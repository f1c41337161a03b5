//! The tokenizers of SD3.5, which a checkpoint does not contain: packed in `models/tokenizers/`.

use crate::{Error, Result};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;

static CLIP_MERGES: &[u8] = include_bytes!("../../tokenizers/clip-merges.txt.gz");
static T5_TOKENIZER: &[u8] = include_bytes!("../../tokenizers/t5-tokenizer.json.gz");

const CLIP_BEGIN: &str = "<|startoftext|>";
const CLIP_END: &str = "<|endoftext|>";

/// Tokens that CLIP reads.
const CLIP_TOKENS: usize = 77;

/// Every file there is.
pub(super) const PATHS: &[&str] = &[
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer_2/merges.txt",
    "tokenizer_2/tokenizer_config.json",
    "tokenizer_2/vocab.json",
    "tokenizer_3/tokenizer.json",
    "tokenizer_3/tokenizer_config.json",
];

/// A file as a directory in the diffusers layout has it.
pub(super) fn read(path: &str) -> Result<Vec<u8>> {
    match path {
        "tokenizer/tokenizer_config.json" => Ok(clip_config(CLIP_END)),
        "tokenizer_2/tokenizer_config.json" => Ok(clip_config("!")),
        "tokenizer_3/tokenizer_config.json" => Ok(bytes(&json!({ "pad_token": "<pad>" }))),
        "tokenizer/merges.txt" | "tokenizer_2/merges.txt" => Ok(unpack(CLIP_MERGES)),
        "tokenizer/vocab.json" | "tokenizer_2/vocab.json" => Ok(clip_vocabulary(&unpack(CLIP_MERGES))),
        "tokenizer_3/tokenizer.json" => Ok(unpack(T5_TOKENIZER)),
        _ => Err(Error::Model(format!("there is no {path} inside the program"))),
    }
}

/// The two CLIPs share a vocabulary and differ in what they pad with, which is a special token then: CLIP-G's "!" is
/// cut out of the text before anything else.
fn clip_config(pad: &str) -> Vec<u8> {
    let special = |content: &str, normalized: bool| json!({ "content": content, "normalized": normalized, "special": true });
    let mut added =
        BTreeMap::from([("49406", special(CLIP_BEGIN, true)), ("49407", special(CLIP_END, false))]);
    if pad != CLIP_END {
        added.insert("0", special(pad, false));
    }
    bytes(&json!({
        "added_tokens_decoder": added,
        "bos_token": CLIP_BEGIN,
        "eos_token": CLIP_END,
        "unk_token": CLIP_END,
        "pad_token": pad,
        "model_max_length": CLIP_TOKENS,
    }))
}

/// `vocab.json`, which follows from the merges: the bytes, the bytes that end a word, what each merge makes, and two
/// special tokens.
fn clip_vocabulary(merges: &[u8]) -> Vec<u8> {
    let bytes_as_letters = byte_letters();
    let letters = bytes_as_letters.iter().map(char::to_string);
    let endings = bytes_as_letters.iter().map(|letter| format!("{letter}</w>"));
    let text = String::from_utf8_lossy(merges);
    let merged = text.lines().skip(1).filter(|line| !line.is_empty()).map(|line| line.replace(' ', ""));
    let special = [CLIP_BEGIN, CLIP_END].map(str::to_owned);
    let tokens = letters.chain(endings).chain(merged).chain(special);
    bytes(&tokens.zip(0..).map(|(token, id): (String, u32)| (token, Value::from(id))).collect())
}

/// The letter that stands for each byte, in the order of the vocabulary: printable ones for themselves, then the others
/// from U+0100 on (OpenAI's `bytes_to_unicode`).
fn byte_letters() -> Vec<char> {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..256).filter(|byte| !printable(byte)).count() as u32;
    (0..256).filter(printable).chain(0x100..0x100 + others).filter_map(char::from_u32).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut unpacked).expect("packed with the program");
    unpacked
}
