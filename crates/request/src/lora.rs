//! The LoRA adapters of a request: where their files are, their scales, and what is wrong with one.

use crate::Source;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Permitted scale of a LoRA adapter.
pub const LORA_SCALE: RangeInclusive<f64> = 0.0..=4.0;
/// Most LoRA adapters of a request.
pub const MAX_LORAS: usize = 32;

/// A LoRA adapter of a request. The worker fetches its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraRef {
    /// What the client called it, shortened and without what may be secret, for messages.
    pub name: String,
    /// Where it is.
    pub source: AdapterSource,
    /// What its products are multiplied by.
    pub scale: f64,
}

/// Where an adapter is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterSource {
    /// A file of the client.
    File(Source),
    /// On the Hugging Face hub.
    Hub {
        /// `owner/name`.
        repository: String,
        /// Path in the repository; `None`: the one adapter that it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
    },
    /// A file of the operator, by the name that its workers know.
    Named(String),
}

impl AdapterSource {
    /// The file of the client, if it is one.
    pub(crate) fn file_mut(&mut self) -> Option<&mut Source> {
        match self {
            Self::File(source) => Some(source),
            Self::Hub { .. } | Self::Named(_) => None,
        }
    }

    /// What names it to everybody; `None` for a file of the client, whose URL may give access to it.
    pub fn public_name(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Named(name) => Some(name.clone()),
            Self::Hub { repository, file: None } => Some(repository.clone()),
            Self::Hub { repository, file: Some(file) } => Some(format!("{repository}/{file}")),
        }
    }

    /// An adapter on the hub: `owner/name`, or `owner/name/path/to/file.safetensors`.
    pub fn on_hub(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._- ".contains(c);
        let is_part =
            |part: &str| !part.is_empty() && !part.starts_with(['.', ' ']) && part.chars().all(allowed);
        let (owner, rest) = text.split_once('/')?;
        let (name, file) = rest.split_once('/').map_or((rest, None), |(name, file)| (name, Some(file)));
        let is_repository = [owner, name].iter().all(|part| is_part(part) && !part.contains(' '));
        let is_file = file.is_none_or(|file| file.ends_with(".safetensors") && file.split('/').all(is_part));
        let repository = || format!("{owner}/{name}");
        (is_repository && is_file)
            .then(|| Self::Hub { repository: repository(), file: file.map(str::to_owned) })
    }
}

/// What is wrong with the adapters of a request, or with its ControlNet or IP-Adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterProblem {
    /// Number of the LoRA adapter in the request, from 0; `None` where it is all of them together, or another
    /// network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The class.
    pub flaw: AdapterFlaw,
    /// What to change. Names the adapter as the client did.
    pub message: String,
}

/// The class of an [`AdapterProblem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterFlaw {
    /// Its file cannot be had.
    Unreachable,
    /// Its file has more bytes than this.
    TooManyBytes(u64),
    /// Its file is no adapter, or none of this model.
    Unusable,
}

/// Whether an operator may give a file this name: letters, digits, `.`, `_` and `-`, so that it is neither a path nor a URL.
pub fn is_lora_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=100).contains(&text.len()) && !text.starts_with('.') && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_neither_a_path_nor_a_url() {
        for name in ["night", "ink-2.0", "A_b.safetensors"] {
            assert!(is_lora_name(name), "{name}");
        }
        for text in ["", "a/b", ".", "..", ".hidden", "a b", "http://x", "C:\\a", "é", &"a".repeat(101)] {
            assert!(!is_lora_name(text), "{text}");
        }
    }

    #[test]
    fn a_hub_path_stays_in_its_repository() {
        let hub = |repository: &str, file: Option<&str>| {
            Some(AdapterSource::Hub { repository: repository.into(), file: file.map(str::to_owned) })
        };
        assert_eq!(AdapterSource::on_hub("me/a-1.0"), hub("me/a-1.0", None));
        assert_eq!(AdapterSource::on_hub("me/a/x/b c.safetensors"), hub("me/a", Some("x/b c.safetensors")));
        for text in [
            "a",
            "/etc/passwd",
            "../a",
            "a/..",
            "me/a/../b.safetensors",
            "me/a/b.bin",
            "me/a//b.safetensors",
            "me/a/",
            "me/a/.hidden.safetensors",
            "me/a?b",
            "me/a/b.safetensors\n",
            "C:\\a/b",
            "m e/a",
        ] {
            assert_eq!(AdapterSource::on_hub(text), None, "{text}");
        }
    }

    #[test]
    fn a_public_name_names_the_same_source() {
        for text in ["me/a", "me/a/x/b.safetensors"] {
            assert_eq!(
                AdapterSource::on_hub(text).and_then(|source| source.public_name()),
                Some(text.into())
            );
        }
        assert_eq!(AdapterSource::Named("night".into()).public_name(), Some("night".into()));
        assert_eq!(AdapterSource::File(Source::Remote("https://host/a".into())).public_name(), None);
    }

    #[test]
    fn sources_are_stored_in_few_words() {
        let lora = |source| LoraRef { name: "a".into(), source, scale: 0.5 };
        for (source, json) in [
            (AdapterSource::Named("night".into()), r#"{"named":"night"}"#),
            (AdapterSource::File(Source::Stored("k.bin".into())), r#"{"file":{"stored":"k.bin"}}"#),
            (
                AdapterSource::Hub { repository: "me/a".into(), file: None },
                r#"{"hub":{"repository":"me/a"}}"#,
            ),
        ] {
            let stored = format!(r#"{{"name":"a","source":{json},"scale":0.5}}"#);
            assert_eq!(serde_json::to_string(&lora(source.clone())).expect("JSON"), stored);
            assert_eq!(serde_json::from_str::<LoraRef>(&stored).expect("a row"), lora(source));
        }
    }
}
