//! The model code names no flag, no command and no endpoint of fal, and starts no program.

use super::code::{is_test_module, production_code};
use super::{all, none};

/// Folders of the model code.
const WITHIN: [&str; 2] = ["models/src/", "kernels/src/"];

/// Endpoints of fal, and how a program is started.
const WORDS: [&str; 5] = ["fal-ai", "fal.ai", "image-to-image", "stable-diffusion-v3", "Command::new"];

/// What flags (`--dtype`) and commands (`latentd models`) begin with, before a small letter.
const MARKS: [&str; 2] = ["--", "`latentd "];

#[test]
fn the_model_code_names_no_flag_and_no_endpoint() {
    none(all(named));
}

/// The flags, commands and endpoints that a file's code names.
fn named(path: &str, source: &str) -> Vec<String> {
    if !WITHIN.iter().any(|folder| path.starts_with(folder)) || is_test_module(path) {
        return vec![];
    }
    let code = production_code(source);
    let starts_a_word = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-');
    let is_followed =
        |at: usize, mark: &str| code[at + mark.len()..].starts_with(|c: char| c.is_ascii_lowercase());
    let marks = MARKS.iter().flat_map(|mark| code.match_indices(mark));
    let marks = marks.filter(|(at, mark)| starts_a_word(*at) && is_followed(*at, mark));
    let words = WORDS.iter().flat_map(|word| code.match_indices(word));
    let line = |at: usize| code[..at].lines().count().max(1);
    marks
        .chain(words)
        .map(|(at, what)| format!("{path}:{}: the model code names {what}…", line(at)))
        .collect()
}

#[test]
fn a_flag_or_an_endpoint_in_a_message() {
    for code in [
        "bail!(\"give --dtype bf16\")",
        "\"see `latentd models verify`\"",
        "\"--t5 off\"",
        "const LARGE: &str = \"fal-ai/x\";",
        "Command::new(\"nvidia-smi\")",
    ] {
        assert_eq!(named("models/src/a.rs", code).len(), 1, "{code}");
        assert_eq!(named("src/a.rs", code), [""; 0]);
    }
    for code in ["// give --dtype", "\"models--me--name\"", "#[cfg(test)]\nmod tests {\n \"--t5\" }"] {
        assert_eq!(named("models/src/a.rs", code), [""; 0], "{code}");
    }
}
