//! An import into the cache: contents are written into a folder of their own, and get their names in the cache only when
//! all of them are there and verified.
//!
//! The folder is `.unbundle` in the cache. It goes when the import ends in any way; what a killed process leaves there, the
//! next import removes.

use crate::bundled::{BundledRepo, snapshot_directory};
use crate::cache::RepoCache;
use crate::checksum::Checksum;
use crate::error::HubError;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

/// The folder of contents that have no names yet.
const STAGING: &str = ".unbundle";

/// A content that a repository names.
struct Use<'a> {
    repo: &'a BundledRepo,
    path: &'a str,
    sha256: &'a str,
    blob: Checksum,
}

/// Repositories on their way into a cache.
pub struct Import<'a> {
    cache: &'a Path,
    uses: Vec<Use<'a>>,
    repos: &'a [BundledRepo],
    staging: PathBuf,
    /// Held until the end: one import at a time.
    _lock: File,
}

impl<'a> Import<'a> {
    /// Begins to import repositories, which were checked.
    ///
    /// # Errors
    /// Another import is running, or the cache cannot be written.
    pub fn begin(cache: &'a Path, repos: &'a [BundledRepo]) -> Result<Self, HubError> {
        let (staging, locks) = (cache.join(STAGING), cache.join(".locks"));
        fs::create_dir_all(&locks).map_err(HubError::io(&locks))?;
        let path = locks.join("unbundle.lock");
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = open.map_err(HubError::io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            // A file system without locks.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(TryLockError::WouldBlock) => return Err(HubError::ImportRuns { cache: cache.into() }),
            Err(TryLockError::Error(error)) => return Err(HubError::io(path)(error)),
        }
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(HubError::io(&staging))?;
        }
        fs::create_dir(&staging).map_err(HubError::io(&staging))?;
        Ok(Self { cache, uses: uses(repos), repos, staging, _lock: lock })
    }

    /// Whether the cache has a content already under every name that it needs. Reads it.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn has(&self, sha256: &str, bytes: u64) -> Result<bool, HubError> {
        for used in self.uses.iter().filter(|used| used.sha256 == sha256) {
            let cache = self.cache_of(used.repo);
            if !cache.has(&used.blob, bytes) || !used.blob.matches(&cache.blob(&used.blob))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Creates the file that a content is written to.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(&self, sha256: &str) -> Result<File, HubError> {
        let path = self.staging.join(sha256);
        File::options().write(true).create_new(true).open(&path).map_err(HubError::io(path))
    }

    /// Gives everything its name in the cache. The contents were verified.
    ///
    /// # Errors
    /// A content is not what its name in the cache says, in which case nothing was changed, or the cache cannot be written.
    pub async fn publish(self) -> Result<(), HubError> {
        for used in &self.uses {
            let content = self.staging.join(used.sha256);
            if matches!(used.blob, Checksum::GitBlob(_))
                && content.exists()
                && !used.blob.matches(&content)?
            {
                return Err(HubError::DamagedFile { path: used.path.into() });
            }
        }
        for (index, used) in self.uses.iter().enumerate() {
            let is_last = self.uses[index + 1..].iter().all(|later| later.sha256 != used.sha256);
            self.place(used, is_last).await?;
        }
        for repo in self.repos {
            let cache = self.cache_of(repo);
            for file in &repo.files {
                let blob = Checksum::from_name(&file.blob).expect("a bundle's checksums are checked");
                cache.link(&repo.commit, &file.path, &blob)?;
            }
            let snapshot = snapshot_directory(self.cache, repo);
            sync_folders(&snapshot)?;
            snapshot.parent().map_or(Ok(()), sync)?;
            cache.set_ref(&repo.revision, &repo.commit)?;
            cache.sync_ref(&repo.revision)?;
        }
        Ok(())
    }

    /// Gives a content its name in one repository.
    async fn place(&self, used: &Use<'_>, is_last: bool) -> Result<(), HubError> {
        let (content, cache) = (self.staging.join(used.sha256), self.cache_of(used.repo));
        cache.create()?;
        if !content.exists() {
            return Ok(()); // the cache had it
        }
        let on_wait = || tracing::info!("{} is fetched by another process: waiting", used.path);
        let _lock = cache.lock(&used.blob, on_wait).await?;
        let (part, blob) = (cache.incomplete(&used.blob), cache.blob(&used.blob));
        if is_last {
            // What a pull had of it is of no more use.
            let _ = fs::remove_file(&part);
            fs::rename(&content, &blob).map_err(HubError::io(&blob))?;
        } else {
            fs::copy(&content, &part).map_err(HubError::io(&part))?;
            let file = File::open(&part).map_err(HubError::io(&part))?;
            file.sync_all().map_err(HubError::io(&part))?;
            fs::rename(&part, &blob).map_err(HubError::io(&blob))?;
        }
        blob.parent().map_or(Ok(()), sync)
    }

    fn cache_of(&self, repo: &BundledRepo) -> RepoCache {
        RepoCache::new(self.cache, &repo.repository)
    }
}

impl Drop for Import<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.staging);
    }
}

/// Bytes that an import will write: those of the contents that the cache has not all of.
pub fn missing_bytes(cache: &Path, repos: &[BundledRepo], contents: &[(&str, u64)]) -> u64 {
    let uses = uses(repos);
    let is_missing = |sha256: &str, bytes: u64| {
        let mut used = uses.iter().filter(|used| used.sha256 == sha256);
        used.any(|used| !RepoCache::new(cache, &used.repo.repository).has(&used.blob, bytes))
    };
    contents.iter().filter(|(sha256, bytes)| is_missing(sha256, *bytes)).map(|(_, bytes)| bytes).sum()
}

/// Each name of a content once.
fn uses(repos: &[BundledRepo]) -> Vec<Use<'_>> {
    let mut uses: Vec<Use<'_>> = Vec::new();
    for repo in repos {
        for file in &repo.files {
            let Some(blob) = Checksum::from_name(&file.blob) else { continue };
            let is_known = |used: &Use<'_>| used.repo.repository == repo.repository && used.blob == blob;
            if !uses.iter().any(is_known) {
                uses.push(Use { repo, path: &file.path, sha256: &file.sha256, blob });
            }
        }
    }
    uses
}

/// Makes the entries of a directory and of those below it durable.
fn sync_folders(directory: &Path) -> Result<(), HubError> {
    for entry in fs::read_dir(directory).map_err(HubError::io(directory))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_folders(&entry.path())?;
        }
    }
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), HubError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(HubError::io(directory))
}
