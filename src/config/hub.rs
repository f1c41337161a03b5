//! The Hugging Face hub as the flags and Hugging Face's own variables describe it.

use super::{ConfigError, refuse};
use crate::args::HubArgs;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// Where models come from that are named by an id.
#[derive(Debug, Clone, PartialEq)]
pub struct HubConfig {
    /// The hub, `HF_ENDPOINT`.
    pub endpoint: Url,
    /// The cache that is shared with Hugging Face's own programs, `HF_HUB_CACHE`.
    pub cache: PathBuf,
    /// Who asks, `HF_TOKEN`.
    pub token: Option<HubToken>,
    /// File with a token where there is none in the environment, `HF_TOKEN_PATH`.
    pub token_path: PathBuf,
    /// Branch, tag or commit.
    pub revision: String,
    /// What forbids every connection, if anything does: the flag or the variable.
    pub offline: Option<&'static str>,
    /// Without a byte for so long, a transfer begins anew where it stopped.
    pub stall: Duration,
    /// Pause before the second try, doubled before each further one.
    pub backoff: Duration,
}

/// A secret of the hub's, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct HubToken(pub String);

impl fmt::Debug for HubToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("HubToken(…)")
    }
}

impl HubConfig {
    /// Checks the flags; `variable` is a variable of the environment, if it is set and not empty.
    ///
    /// # Errors
    /// A line that says what to change.
    pub fn resolve(
        args: &HubArgs,
        variable: impl Fn(&str) -> Option<String>,
        user_home: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let user_home = user_home.unwrap_or_default();
        let path = |name: &str| variable(name).map(|text| below_home(&text, &user_home));
        let home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME").unwrap_or_else(|| user_home.join(".cache")).join("huggingface")
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.unwrap_or_else(|| home.join("hub"));
        let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
        let variable_is_true = |name: &str| variable(name).is_some_and(|text| is_true(&text));
        let offline = match args.offline {
            true => Some("--offline"),
            false => {
                ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| variable_is_true(name))
            }
        };
        Ok(Self {
            endpoint: endpoint(variable("HF_ENDPOINT"))?,
            cache: std::path::absolute(&cache)
                .map_err(|error| ConfigError(format!("HF_HUB_CACHE {}: {error}", cache.display())))?,
            token: token.map(|text| HubToken(text.trim().to_owned())).filter(|token| !token.0.is_empty()),
            token_path: path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token")),
            revision: revision(&args.revision)?,
            offline,
            stall: Duration::from_secs(args.stall_timeout),
            backoff: Duration::from_secs(1),
        })
    }
}

/// `~` is the user's home, as Hugging Face's programs have it.
fn below_home(text: &str, home: &Path) -> PathBuf {
    match text.strip_prefix('~') {
        Some("") => home.to_path_buf(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(text),
    }
}

/// What Hugging Face's programs take for yes.
fn is_true(text: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|yes| text.eq_ignore_ascii_case(yes))
}

fn endpoint(given: Option<String>) -> Result<Url, ConfigError> {
    let text = given.unwrap_or_else(|| "https://huggingface.co".into());
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => refuse(format!("HF_ENDPOINT {text}: give http://… or https://…")),
    }
}

/// It becomes part of a path and of a URL.
fn revision(text: &str) -> Result<String, ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let parts = || text.split('/');
    if !text.chars().all(allowed) || parts().any(|part| part.is_empty() || part.starts_with('.')) {
        return refuse(format!("--revision {text}: give a branch, a tag or a commit"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGS: fn() -> HubArgs = || HubArgs { revision: "main".into(), offline: false, stall_timeout: 30 };

    fn with(variables: &[(&str, &str)]) -> Result<HubConfig, ConfigError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        HubConfig::resolve(&ARGS(), variable, Some("/home/me".into()))
    }

    #[test]
    fn the_cache_is_where_hugging_face_has_it() {
        for (variables, cache, token) in [
            (&[][..], "/home/me/.cache/huggingface/hub", "/home/me/.cache/huggingface/token"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub", "/x/huggingface/token"),
            (&[("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/x")], "/home/me/hf/hub", "/home/me/hf/token"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], "/c", "/h/token"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_TOKEN_PATH", "/t")], "/old", "/t"),
            (
                &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/c")],
                "/c",
                "/home/me/.cache/huggingface/token",
            ),
        ] {
            let config = with(variables).expect("settings");
            assert_eq!((config.cache.to_str(), config.token_path.to_str()), (Some(cache), Some(token)));
        }
    }

    #[test]
    fn hugging_face_words_for_yes_forbid_the_network() {
        for (value, forbidden) in
            [("1", true), ("ON", true), ("yes", true), ("True", true), ("0", false), ("no", false)]
        {
            let offline = with(&[("HF_HUB_OFFLINE", value)]).expect("settings").offline;
            assert_eq!(offline, forbidden.then_some("HF_HUB_OFFLINE"), "{value}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let config = with(&[("HF_TOKEN", " hf_secret\n")]).expect("settings");
        assert_eq!(config.token, Some(HubToken("hf_secret".into())));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(
            with(&[("HF_ENDPOINT", "huggingface.co")]).expect_err("no scheme").0.starts_with("HF_ENDPOINT")
        );
        for text in ["", "..", "a/../b", "/etc", "a b", "a//b", "a?b"] {
            let args = HubArgs { revision: text.into(), ..ARGS() };
            let refusal = HubConfig::resolve(&args, |_| None, None).expect_err(text);
            assert!(refusal.0.starts_with("--revision"), "{refusal}");
        }
    }
}
