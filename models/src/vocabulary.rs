//! What the built-in model can generate, and which words of a prompt it cannot know. A model that was trained on a few
//! hundred words ignores all others, and an image without them should say why.

use crate::files::ModelFiles;
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::HashSet;

/// The file of a model directory that lists its words (models/train/vocabulary.py); published models have none.
const FILE: &str = "vocabulary.json";

/// Unknown words that a note lists.
const LISTED: usize = 8;

/// The words that a model was trained on.
#[derive(Debug, Deserialize)]
pub(crate) struct Vocabulary {
    /// What it generates, as the end of a sentence.
    knows: String,
    /// In small letters.
    words: HashSet<String>,
}

impl Vocabulary {
    /// Reads it, if the model has one.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(crate) fn read(files: &ModelFiles) -> Result<Option<Self>> {
        if !files.exists(FILE) {
            return Ok(None);
        }
        let bytes = files.read(FILE)?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|error| Error::Model(format!("{}: {error}", files.display(FILE))))
    }

    /// A note for the client about the words of a prompt that the model was never trained on, if there are any.
    pub(crate) fn note(&self, prompt: &str) -> Option<String> {
        let unknown = self.unknown(prompt);
        if unknown.is_empty() {
            return None;
        }
        let mut listed = unknown[..unknown.len().min(LISTED)].join(", ");
        if unknown.len() > LISTED {
            listed.push_str(&format!(" and {} more", unknown.len() - LISTED));
        }
        Some(format!("ignored: {listed}. The built-in model knows only: {}", self.knows))
    }

    /// Each unknown word once, as written. Numbers and single letters are not words.
    fn unknown<'a>(&self, prompt: &'a str) -> Vec<&'a str> {
        let mut seen = HashSet::new();
        prompt
            .split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
            .map(|word| word.trim_matches(['\'', '’']))
            .filter(|word| word.chars().nth(1).is_some() && !word.contains(|c: char| c.is_ascii_digit()))
            .filter(|word| !self.has(&word.to_lowercase()) && seen.insert(word.to_lowercase()))
            .collect()
    }

    /// Whether the word, its singular or its plural is known.
    fn has(&self, word: &str) -> bool {
        let known = |word: &str| self.words.contains(word);
        let stems = ["s", "es", "'s", "’s"].iter().filter_map(|ending| word.strip_suffix(ending));
        known(word) || stems.into_iter().any(known) || known(&format!("{word}s"))
    }
}

#[cfg(test)]
mod tests {
    use super::Vocabulary;

    fn vocabulary() -> Vocabulary {
        let words = ["a", "the", "red", "house", "houses", "bridge", "by", "lake", "poppies", "torch"];
        Vocabulary { knows: "houses and lakes".into(), words: words.map(str::to_owned).into() }
    }

    #[test]
    fn a_prompt_of_known_words_has_no_note() {
        for prompt in
            ["", "A red house by the LAKE!", "red, houses; bridges. torches", "the house's bridge", "8k, 3 x"]
        {
            assert_eq!(vocabulary().note(prompt), None, "{prompt}");
        }
    }

    #[test]
    fn unknown_words_are_listed_once_as_they_are_written() {
        let note = vocabulary().note("a red cat, a Cat by the lake in Paris").expect("a note");
        assert_eq!(note, "ignored: cat, in, Paris. The built-in model knows only: houses and lakes");
        let note = vocabulary().note("b1 aa bb cc dd ee ff gg hh ii jj").expect("a note");
        assert!(note.starts_with("ignored: aa, bb, cc, dd, ee, ff, gg, hh and 2 more."), "{note}");
    }

    #[test]
    fn words_of_other_scripts_are_whole() {
        let note = vocabulary().note("ein Häuschen am См. 赤い家").expect("a note");
        assert!(note.starts_with("ignored: ein, Häuschen, am, См, 赤い家."), "{note}");
    }
}
