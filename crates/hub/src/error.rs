//! Why a model cannot be downloaded, each with what the user can do.

use std::path::PathBuf;
use std::time::Duration;

/// Why a model cannot be downloaded or used.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not in the cache, and downloads are forbidden.
    #[error(
        "{repository} is not in the cache {}, nor is there such a directory, and {why} forbids to fetch it: run `latentd models pull {repository}` where that is allowed",
        cache.display()
    )]
    NotHere {
        /// `owner/name`.
        repository: String,
        /// Where it was looked for.
        cache: PathBuf,
        /// `--offline` or a variable.
        why: &'static str,
    },
    /// Partly in the cache, and downloads are forbidden.
    #[error(
        "{repository} is incomplete in the cache, {} missing, and {why} forbids to fetch the rest: run `latentd models pull {repository}` where that is allowed",
        named(missing)
    )]
    Incomplete {
        /// `owner/name`.
        repository: String,
        /// Paths in the repository.
        missing: Vec<String>,
        /// `--offline` or a variable.
        why: &'static str,
    },
    /// A pull where downloads are forbidden.
    #[error("a pull needs the network, which {0} forbids")]
    Offline(&'static str),
    /// The repository is gated and no token was sent.
    #[error(
        "{repository} has a licence to accept: do so on {page}, make a token on {tokens}, and give it as HF_TOKEN (or run `hf auth login`)"
    )]
    NoToken {
        /// `owner/name`.
        repository: String,
        /// Where the licence is.
        page: String,
        /// Where tokens are made.
        tokens: String,
    },
    /// The token's owner has not accepted the licence.
    #[error(
        "the owner of the token in {token} may not read {repository} yet: accept its licence on {page} with that account, then do this again"
    )]
    NotAccepted {
        /// `owner/name`.
        repository: String,
        /// Where the licence is.
        page: String,
        /// Where the token was found.
        token: String,
    },
    /// The hub does not know the token.
    #[error("the hub does not accept the token in {token}: make another on {tokens}")]
    BadToken {
        /// Where it was found.
        token: String,
        /// Where tokens are made.
        tokens: String,
    },
    /// The token may not do this.
    #[error(
        "the token in {token} may not read {repository} ({said}): allow it to read gated repositories on {tokens}"
    )]
    Forbidden {
        /// `owner/name`.
        repository: String,
        /// Where the token was found.
        token: String,
        /// The hub's own words.
        said: String,
        /// Where tokens are made.
        tokens: String,
    },
    /// No such repository, or a private one.
    #[error("{hub} has no model {repository}, or it is private{}", if *.has_token { "" } else { " and needs a token in HF_TOKEN" })]
    NotFound {
        /// `owner/name`.
        repository: String,
        /// The hub's host.
        hub: String,
        /// Whether one was sent.
        has_token: bool,
    },
    /// No such branch, tag or commit.
    #[error("{repository} has no revision {revision}")]
    NoRevision {
        /// `owner/name`.
        repository: String,
        /// What was asked for.
        revision: String,
    },
    /// Not a model that can be run.
    #[error("{repository} cannot be run: {why}")]
    NotRunnable {
        /// `owner/name`.
        repository: String,
        /// What it is instead.
        why: String,
    },
    /// No adapter, or none that was named.
    #[error("{repository} has no adapter that can be used: {why}")]
    NoAdapter {
        /// `owner/name`.
        repository: String,
        /// What to name.
        why: String,
    },
    /// A file that may not be downloaded.
    #[error("{repository} has {bytes} bytes to download, and at most {max} are allowed")]
    TooLarge {
        /// `owner/name`.
        repository: String,
        /// Of what would be downloaded.
        bytes: u64,
        /// Most bytes.
        max: u64,
    },
    /// The name cannot be resolved.
    #[error("the address of {host} cannot be found: this machine has no network, or no name service ({why})")]
    NoName {
        /// The host.
        host: String,
        /// The system's words.
        why: String,
    },
    /// No connection, or it broke, at every attempt.
    #[error(
        "{host} cannot be reached: {why}; what was fetched is kept, and the next pull goes on from there"
    )]
    Unreachable {
        /// The host.
        host: String,
        /// The cause at the last attempt.
        why: String,
    },
    /// An unexpected response.
    #[error("{host} answered {said}: is it a Hugging Face hub?")]
    Answer {
        /// The host.
        host: String,
        /// Its text.
        said: String,
    },
    /// A file arrived damaged twice.
    #[error("{path} arrived damaged twice, its checksum is not {expected}; it was deleted, try again later")]
    Damaged {
        /// Path in the repository.
        path: String,
        /// The checksum of the hub.
        expected: String,
    },
    /// A file that is not what the hub gave.
    #[error("{} is damaged: its checksum is not the one of the hub", path.display())]
    DamagedFile {
        /// Which.
        path: PathBuf,
    },
    /// A second import at the same time.
    #[error("another `latentd unbundle` writes to {}: wait until it has ended", cache.display())]
    ImportRuns {
        /// The cache.
        cache: PathBuf,
    },
    /// The disk is too small.
    #[error("the pull needs {} more and there is {} free on the disk of {}: free some, or set HF_HUB_CACHE to another disk", size(*needed), size(*free), path.display())]
    NoSpace {
        /// Bytes to fetch.
        needed: u64,
        /// Bytes free.
        free: u64,
        /// The cache.
        path: PathBuf,
    },
    /// A file of the cache.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The user ended it.
    #[error("stopped: {} of {} are here and stay, and the next pull goes on from there", size(*have), size(*total))]
    Interrupted {
        /// Bytes that are here.
        have: u64,
        /// Bytes in all.
        total: u64,
    },
}

impl HubError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// The cause without the advice.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Unreachable { why, .. } | Self::NoName { why, .. } => why.clone(),
            other => other.to_string(),
        }
    }
}

/// Why one request failed.
pub(crate) enum Failure {
    /// The next attempt may succeed.
    Temporary {
        /// The error of the last attempt.
        error: HubError,
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
    /// Every further attempt would fail.
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

/// Bytes for messages, in powers of ten.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

/// The first path of a list, and how many more there are.
pub(crate) fn named(paths: &[String]) -> String {
    match paths {
        [path] => path.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => "nothing".into(),
    }
}
