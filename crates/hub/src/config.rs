//! Where the hub and its cache are, and how it is called: plain values, made of flags and variables by the caller.

use hf_hub::Cache;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// The hub, its cache, and how transfers behave.
#[derive(Debug, Clone, PartialEq)]
pub struct HubConfig {
    /// The hub, `HF_ENDPOINT`.
    pub endpoint: Url,
    /// The cache that is shared with Hugging Face's own programs, `HF_HUB_CACHE`.
    pub cache: PathBuf,
    /// The user's access token, `HF_TOKEN`.
    pub token: Option<HubToken>,
    /// File with a token where there is none in the environment, `HF_TOKEN_PATH`.
    pub token_path: PathBuf,
    /// Branch, tag or commit.
    pub revision: String,
    /// The flag or variable that forbids every connection, if one does.
    pub offline: Option<&'static str>,
    /// Time without a byte after which a transfer is started again where it stopped.
    pub stall: Duration,
    /// Pause before the second attempt, doubled before each further one.
    pub backoff: Duration,
}

/// An access token, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct HubToken(pub String);

impl fmt::Debug for HubToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("HubToken(…)")
    }
}

/// The file that `hf auth login` writes the token to, where `home` is Hugging Face's folder, `HF_HOME`.
pub fn token_file(home: &Path) -> PathBuf {
    Cache::new(home.join("hub")).token_path()
}
