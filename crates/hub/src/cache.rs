//! One repository in the Hugging Face cache, laid out as `huggingface_hub` does:
//!
//! ```text
//! models--OWNER--NAME/blobs/CHECKSUM                    a file's content, `CHECKSUM.incomplete` while it is downloaded
//! models--OWNER--NAME/snapshots/COMMIT/vae/config.json  -> ../../../blobs/CHECKSUM
//! models--OWNER--NAME/refs/main                         the commit of a branch
//! .locks/models--OWNER--NAME/CHECKSUM.lock              held with flock(2) by the process that writes that content
//! ```
//!
//! `hf-hub` names the folders. What it has for blobs belongs to its downloads, and its `create_ref` truncates the file
//! before it writes, so that a server that starts meanwhile would read no commit.

use crate::checksum::Checksum;
use crate::error::HubError;
use hf_hub::{Cache, CacheRepo, Repo};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Between two attempts to take a lock that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// Marks a folder as a cache for backup programs (CACHEDIR.TAG).
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag.\n# https://bford.info/cachedir/\n";

/// A repository's folder in the cache.
#[derive(Debug)]
pub(crate) struct RepoCache {
    cache: Cache,
    name: String,
    repo: CacheRepo,
}

impl RepoCache {
    pub(crate) fn new(cache: &Path, repository: &str) -> Self {
        let cache = Cache::new(cache.to_path_buf());
        let repo = Repo::model(repository.to_owned());
        Self { name: repo.folder_name(), repo: cache.repo(repo), cache }
    }

    /// Every repository of models in a cache, by name.
    pub(crate) fn all(cache: &Path) -> Vec<(String, Self)> {
        let entries = fs::read_dir(cache).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<_> = names
            .filter_map(|name| {
                let repository = name.strip_prefix("models--")?.replacen("--", "/", 1);
                let repo = Self::new(cache, &repository);
                Some((repository, repo))
            })
            .collect();
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found
    }

    fn path(&self) -> PathBuf {
        self.cache.path().join(&self.name)
    }

    fn locks(&self) -> PathBuf {
        self.cache.path().join(".locks").join(&self.name)
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    pub(crate) fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.path().join("blobs").join(checksum.name())
    }

    /// The file that content is written to until all of it is there.
    pub(crate) fn incomplete(&self, checksum: &Checksum) -> PathBuf {
        self.path().join("blobs").join(format!("{}.incomplete", checksum.name()))
    }

    /// The commit that a branch or tag had when the hub was last asked; a commit is its own.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let text = fs::read_to_string(self.path().join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Commits of which there are files, the last written first.
    pub(crate) fn commits(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path().join("snapshots")).into_iter().flatten().flatten();
        let mut commits: Vec<_> = entries
            .map(|entry| {
                let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                (written, entry.file_name().to_string_lossy().into_owned())
            })
            .filter(|(_, name)| is_commit(name))
            .collect();
        commits.sort();
        commits.into_iter().rev().map(|(_, commit)| commit).collect()
    }

    /// Bytes on disk, of complete and incomplete files.
    pub(crate) fn bytes(&self) -> u64 {
        let entries = fs::read_dir(self.path().join("blobs")).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|metadata| metadata.len()).sum()
    }

    /// Whether all of the content is in the cache.
    pub(crate) fn has(&self, checksum: &Checksum, size: u64) -> bool {
        fs::metadata(self.blob(checksum)).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// Creates the folders that a pull writes to.
    pub(crate) fn create(&self) -> Result<(), HubError> {
        for folder in [self.path().join("blobs"), self.locks()] {
            fs::create_dir_all(&folder).map_err(HubError::io(folder))?;
        }
        let tag = self.cache.path().join("CACHEDIR.TAG");
        if !tag.exists() {
            let _ = fs::write(tag, CACHEDIR_TAG); // optional
        }
        Ok(())
    }

    /// Waits for the right to write a content; calls `on_wait` once if another process has it.
    pub(crate) async fn lock(&self, checksum: &Checksum, on_wait: impl FnOnce()) -> Result<File, HubError> {
        let path = self.locks().join(format!("{}.lock", checksum.name()));
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(HubError::io(&path))?;
        let mut on_wait = Some(on_wait);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {
                    if let Some(on_wait) = on_wait.take() {
                        on_wait();
                    }
                }
                // A file system without locks: the checksum shows at the end whether two processes wrote at once.
                Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                    return Ok(file);
                }
                Err(TryLockError::Error(error)) => return Err(HubError::io(path)(error)),
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
    }

    /// Gives a content its path in a snapshot.
    pub(crate) fn link(&self, commit: &str, path: &str, checksum: &Checksum) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(path);
        let blob = self.blob(checksum);
        if link.canonicalize().is_ok_and(|found| blob.canonicalize().is_ok_and(|blob| found == blob)) {
            return Ok(());
        }
        let parent = link.parent().unwrap_or(&link);
        fs::create_dir_all(parent).map_err(HubError::io(parent))?;
        let up = "../".repeat(path.split('/').count() + 1);
        let target = format!("{up}blobs/{}", checksum.name());
        // A process that reads meanwhile sees the old link or the new one.
        let fresh = parent.join(format!(".{}.{}", checksum.name(), std::process::id()));
        let _ = fs::remove_file(&fresh);
        std::os::unix::fs::symlink(target, &fresh).map_err(HubError::io(&fresh))?;
        fs::rename(&fresh, &link).map_err(HubError::io(link))
    }

    /// Records the commit that a branch or tag is at.
    pub(crate) fn set_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if revision == commit {
            return Ok(());
        }
        let path = self.path().join("refs").join(revision);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(HubError::io(parent))?;
        let fresh = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&fresh, commit).map_err(HubError::io(&fresh))?;
        fs::rename(&fresh, &path).map_err(HubError::io(path))
    }

    /// Makes what [`Self::set_ref`] recorded durable.
    pub(crate) fn sync_ref(&self, revision: &str) -> Result<(), HubError> {
        let path = self.path().join("refs").join(revision);
        let (Ok(file), Some(parent)) = (File::open(&path), path.parent()) else { return Ok(()) };
        let synced = file.sync_all().and_then(|()| File::open(parent)?.sync_all());
        synced.map_err(HubError::io(&path))
    }
}

/// Whether a text is a full commit hash; no branch can have such a name.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a path that the hub lists stays inside the snapshot.
pub(crate) fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\\')
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Paths of the files below a directory, with `/`.
pub(crate) fn paths(directory: &Path) -> BTreeSet<String> {
    fn walk(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            // Follows links: one that leads nowhere is no file.
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => walk(&entry.path(), &format!("{name}/"), found),
                Ok(_) => drop(found.insert(name)),
                Err(_) => {}
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(directory, "", &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_out_of_the_snapshot_is_refused() {
        for inside in ["model_index.json", "vae/config.json", "a/b/c"] {
            assert!(stays_inside(inside), "{inside}");
        }
        for outside in ["", "/etc/passwd", "../x", "a/../../x", "./x", "a\\..\\x"] {
            assert!(!stays_inside(outside), "{outside}");
        }
    }

    #[test]
    fn a_repository_is_found_by_its_folder_name() {
        let cache = tempfile::tempdir().expect("a directory");
        let folder = RepoCache::new(cache.path(), "owner/some--name");
        folder.create().expect("folders");
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let checksum = Checksum::from_name(&"a".repeat(64)).expect("a checksum");
        fs::write(folder.blob(&checksum), "text").expect("content");
        folder.link(commit, "vae/config.json", &checksum).expect("a link");
        folder.link(commit, "vae/config.json", &checksum).expect("the same link");
        folder.set_ref("main", commit).expect("a reference");
        let path = folder.snapshot(commit).join("vae/config.json");
        assert_eq!(fs::read_to_string(&path).expect("content"), "text");
        assert!(fs::read_link(&path).expect("a link").starts_with("../../../blobs"));
        assert_eq!((folder.commit("main").as_deref(), folder.commit("other")), (Some(commit), None));
        assert_eq!(folder.commits(), [commit]);
        assert_eq!(RepoCache::all(cache.path())[0].0, "owner/some--name");
        assert_eq!(paths(&folder.snapshot(commit)), BTreeSet::from(["vae/config.json".to_owned()]));
        fs::remove_file(folder.blob(&checksum)).expect("a file less");
        assert_eq!(paths(&folder.snapshot(commit)), BTreeSet::new());
    }
}
