//! The Hugging Face hub: downloads models into the cache that Hugging Face's own programs use too.
//!
//! A model that `huggingface_hub` downloaded is used as it is, and it finds a model that was downloaded here. A transfer
//! that stopped, for whatever reason, resumes where it stopped; no file gets its name before its checksum was verified.
//!
//! The crate `hf-hub` says where things are: the cache's folder of a repository, its snapshots, the token file. Its
//! downloads are not used: they start every file anew, verify no checksum, and do not wait for another process.

mod bundled;
mod cache;
mod checksum;
mod client;
mod config;
mod connect;
mod error;
mod files;
mod import;
mod listing;
mod progress;
mod pull;
mod transfer;
mod verify;

pub use bundled::{
    BundledFile, BundledRepo, all_files, bundled_file, commit_of_snapshot, needed_files, snapshot_directory,
};
pub use config::{HubConfig, HubToken, token_file};
pub use error::HubError;
pub use files::Files;
pub use import::{Import, missing_bytes};
pub use progress::ProgressOutput;
pub use pull::{Recheck, check_free_space, free_space, pull};
pub use verify::{VerifyReport, verify};

use cache::RepoCache;
use std::path::{Path, PathBuf};

/// A repository of the hub, at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRepo {
    /// `owner/name`.
    pub repository: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Which of its files are needed.
    pub files: Files,
}

/// How much of a repository is in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheStatus {
    /// Every file that is needed, in this directory.
    Complete(PathBuf),
    /// All but these files.
    Incomplete(Vec<String>),
    /// Nothing.
    Absent,
}

/// A repository that the cache has something of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRepo {
    /// `owner/name`.
    pub repository: String,
    /// The commit of its branch `main`, or else the one that was downloaded last.
    pub commit: String,
    /// The directory of that commit's files.
    pub snapshot: PathBuf,
}

/// Looks into the cache; opens no connection.
///
/// # Errors
/// The repository is in the cache and is not a model that can be run.
pub fn cache_status(hub: &HubConfig, repo: &ModelRepo) -> Result<CacheStatus, HubError> {
    let cache = RepoCache::new(&hub.cache, &repo.repository);
    let Some(commit) = cache.commit(&repo.revision) else { return Ok(CacheStatus::Absent) };
    let snapshot = cache.snapshot(&commit);
    if !snapshot.is_dir() {
        return Ok(CacheStatus::Absent);
    }
    let missing = verify::select(&snapshot, &repo.repository, &repo.files)?.missing;
    Ok(if missing.is_empty() { CacheStatus::Complete(snapshot) } else { CacheStatus::Incomplete(missing) })
}

/// The directory of a repository's files: from the cache, without a connection, or downloaded now.
///
/// # Errors
/// It is not in the cache and cannot be downloaded; the text says what the user can do.
pub async fn ensure_downloaded(
    hub: &HubConfig,
    repo: &ModelRepo,
    output: ProgressOutput,
) -> Result<PathBuf, HubError> {
    match cached_or_refused(hub, repo)? {
        Some(directory) => Ok(directory),
        None => {
            if matches!(output, ProgressOutput::Terminal) {
                tracing::info!("pulling {} into {}", repo.repository, hub.cache.display());
            }
            pull(hub, repo, output, Recheck::No).await
        }
    }
}

/// The directory that [`ensure_downloaded`] gives without a connection; `None` where it would download.
///
/// # Errors
/// It is not in the cache and downloads are forbidden, or it cannot be run.
pub fn cached_or_refused(hub: &HubConfig, repo: &ModelRepo) -> Result<Option<PathBuf>, HubError> {
    let repository = repo.repository.clone();
    match (cache_status(hub, repo)?, hub.offline) {
        (CacheStatus::Complete(directory), _) => Ok(Some(directory)),
        (CacheStatus::Absent, Some(why)) => {
            Err(HubError::NotHere { repository, cache: hub.cache.clone(), why })
        }
        (CacheStatus::Incomplete(missing), Some(why)) => {
            Err(HubError::Incomplete { repository, missing, why })
        }
        (_, None) => Ok(None),
    }
}

/// The file of an adapter in a directory of its repository.
///
/// # Errors
/// There is none, or several.
pub fn adapter_file(directory: &Path, repo: &ModelRepo) -> Result<Option<PathBuf>, HubError> {
    let selection = verify::select(directory, &repo.repository, &repo.files)?;
    Ok(selection.paths.first().map(|path| directory.join(path)))
}

/// Every repository of models in the cache, by name.
pub fn cached_repos(hub: &HubConfig) -> Vec<CachedRepo> {
    let caches = RepoCache::all(&hub.cache).into_iter();
    let found = caches.filter_map(|(repository, cache)| {
        let commit = cache.commit("main").or_else(|| cache.commits().into_iter().next())?;
        Some(CachedRepo { repository, snapshot: cache.snapshot(&commit), commit })
    });
    found.collect()
}

/// The snapshot that the cache has of a repository, complete or not: of its revision, or else the one that was
/// downloaded last.
pub fn any_snapshot(hub: &HubConfig, repo: &ModelRepo) -> Option<PathBuf> {
    let cache = RepoCache::new(&hub.cache, &repo.repository);
    let commit = cache.commit(&repo.revision).or_else(|| cache.commits().into_iter().next())?;
    Some(cache.snapshot(&commit))
}

/// Bytes that the cache has of a repository, parts of files included.
pub fn cached_bytes(hub: &HubConfig, repository: &str) -> u64 {
    RepoCache::new(&hub.cache, repository).bytes()
}

/// Whether a text has the form of a hub id, `owner/name`.
pub fn is_repository(text: &str) -> bool {
    let part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_id_is_an_owner_and_a_name() {
        assert!(is_repository("me/my_model-2.0"));
        for text in ["", "mini2", "/a", "a/", "a/b/c", "../b", "a/..", "a b/c", "a/b?", "a/.b"] {
            assert!(!is_repository(text), "{text}");
        }
    }
}
