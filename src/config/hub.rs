//! The settings of the Hugging Face hub, from the flags and from Hugging Face's own variables.

use super::{ConfigError, refuse};
use crate::args::{self, HubArgs};
use latentd_hub::{HubConfig, HubToken, token_file};
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// Checks the flags, with the environment of this process.
///
/// # Errors
/// What to change, in one line.
pub(crate) fn resolve(args: &HubArgs) -> Result<HubConfig, ConfigError> {
    with_environment(args, args::variable, std::env::home_dir())
}

/// The settings of a command that reads the cache, makes no connection, and has no flags for it.
pub(crate) fn of_cache() -> Result<HubConfig, ConfigError> {
    resolve(&HubArgs::default())
}

/// The cache of this user where no variable of Hugging Face's names another.
pub(crate) fn default_cache() -> Option<PathBuf> {
    let config = with_environment(&HubArgs::default(), |_| None, std::env::home_dir());
    config.ok().map(|config| config.cache)
}

/// Checks the flags; `variable` is a variable of the environment, if it is set and not empty.
fn with_environment(
    args: &HubArgs,
    variable: impl Fn(&str) -> Option<String>,
    user_home: Option<PathBuf>,
) -> Result<HubConfig, ConfigError> {
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
        false => ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| variable_is_true(name)),
    };
    Ok(HubConfig {
        endpoint: endpoint(variable("HF_ENDPOINT"))?,
        cache: std::path::absolute(&cache)
            .map_err(|error| ConfigError(format!("HF_HUB_CACHE {}: {error}", cache.display())))?,
        token: token.map(|text| HubToken(text.trim().to_owned())).filter(|token| !token.0.is_empty()),
        token_path: path("HF_TOKEN_PATH").unwrap_or_else(|| token_file(&home)),
        revision: revision(&args.revision)?,
        offline,
        stall: Duration::from_secs(args.stall_timeout),
        backoff: Duration::from_secs(1),
    })
}

/// `~` is the user's home, as Hugging Face's programs have it.
fn below_home(text: &str, home: &Path) -> PathBuf {
    match text.strip_prefix('~') {
        Some("") => home.to_path_buf(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(text),
    }
}

/// The values that Hugging Face's programs read as true.
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

    fn with(variables: &[(&str, &str)]) -> Result<HubConfig, ConfigError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        with_environment(&HubArgs::default(), variable, Some("/home/me".into()))
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
    fn a_variable_that_hugging_face_reads_as_true_forbids_the_network() {
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
            let args = HubArgs { revision: text.into(), ..HubArgs::default() };
            let refusal = with_environment(&args, |_| None, None).expect_err(text);
            assert!(refusal.0.starts_with("--revision"), "{refusal}");
        }
    }
}
