//! One repository in the Hugging Face cache, laid out as `huggingface_hub` does:
//!
//! ```text
//! models--OWNER--NAME/blobs/CHECKSUM                    a file's content, `CHECKSUM.incomplete` before it is whole
//! models--OWNER--NAME/snapshots/COMMIT/vae/config.json  -> ../../../blobs/CHECKSUM
//! models--OWNER--NAME/refs/main                         the commit of a branch
//! .locks/models--OWNER--NAME/CHECKSUM.lock              held with flock(2) by who writes that content
//! ```

use super::digest::Checksum;
use super::error::HubError;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Between two looks at a lock that another process holds.
const LOOK: Duration = Duration::from_millis(200);

/// What tells backup programs that a folder is a cache.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag.\n# https://bford.info/cachedir/\n";

/// A repository's folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    cache: PathBuf,
    name: String,
}

impl Folder {
    pub(super) fn new(cache: &Path, repository: &str) -> Self {
        Self { cache: cache.to_path_buf(), name: format!("models--{}", repository.replace('/', "--")) }
    }

    /// Every repository of models in a cache.
    pub(super) fn all(cache: &Path) -> Vec<(String, Self)> {
        let entries = fs::read_dir(cache).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut folders: Vec<_> = names
            .filter_map(|name| {
                let repository = name.strip_prefix("models--")?.replacen("--", "/", 1);
                Some((repository, Self { cache: cache.to_path_buf(), name }))
            })
            .collect();
        folders.sort_by(|(one, _), (other, _)| one.cmp(other));
        folders
    }

    fn path(&self) -> PathBuf {
        self.cache.join(&self.name)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.path().join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, checksum: &Checksum) -> PathBuf {
        self.path().join("blobs").join(checksum.name())
    }

    /// Where the content gathers until it is whole.
    pub(super) fn incomplete(&self, checksum: &Checksum) -> PathBuf {
        self.path().join("blobs").join(format!("{}.incomplete", checksum.name()))
    }

    /// The commit of a branch or tag when it was last asked for; a commit is its own.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let text = fs::read_to_string(self.path().join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Commits of which there is something, the last written first.
    pub(super) fn commits(&self) -> Vec<String> {
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

    /// Bytes on disk, of whole files and others.
    pub(super) fn bytes(&self) -> u64 {
        let entries = fs::read_dir(self.path().join("blobs")).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|metadata| metadata.len()).sum()
    }

    /// Whether the content is here, whole.
    pub(super) fn has(&self, checksum: &Checksum, size: u64) -> bool {
        fs::metadata(self.blob(checksum)).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// Makes what a pull writes into.
    pub(super) fn make(&self) -> Result<(), HubError> {
        for folder in [self.path().join("blobs"), self.cache.join(".locks").join(&self.name)] {
            fs::create_dir_all(&folder).map_err(HubError::io(folder))?;
        }
        let tag = self.cache.join("CACHEDIR.TAG");
        if !tag.exists() {
            let _ = fs::write(tag, CACHEDIR_TAG); // a courtesy
        }
        Ok(())
    }

    /// Waits for the right to write a content; `told` once if somebody else has it.
    pub(super) async fn lock(&self, checksum: &Checksum, mut told: impl FnMut()) -> Result<File, HubError> {
        let path = self.cache.join(".locks").join(&self.name).join(format!("{}.lock", checksum.name()));
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(HubError::io(&path))?;
        let mut waited = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if !waited => {
                    waited = true;
                    told();
                }
                Err(TryLockError::WouldBlock) => {}
                // A file system without locks: the checksum tells at the end whether two wrote at once.
                Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                    return Ok(file);
                }
                Err(TryLockError::Error(error)) => return Err(HubError::io(path)(error)),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gives a content its path in a snapshot.
    pub(super) fn link(&self, commit: &str, path: &str, checksum: &Checksum) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(path);
        let blob = self.blob(checksum);
        if link.canonicalize().is_ok_and(|found| blob.canonicalize().is_ok_and(|blob| found == blob)) {
            return Ok(());
        }
        let parent = link.parent().unwrap_or(&link);
        fs::create_dir_all(parent).map_err(HubError::io(parent))?;
        let up = "../".repeat(path.split('/').count() + 1);
        let target = format!("{up}blobs/{}", checksum.name());
        // Whoever looks meanwhile sees the old link or the new one.
        let fresh = parent.join(format!(".{}.{}", checksum.name(), std::process::id()));
        let _ = fs::remove_file(&fresh);
        std::os::unix::fs::symlink(target, &fresh).map_err(HubError::io(&fresh))?;
        fs::rename(&fresh, &link).map_err(HubError::io(link))
    }

    /// Notes which commit a branch is.
    pub(super) fn refer(&self, revision: &str, commit: &str) -> Result<(), HubError> {
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
}

/// A full commit, which no branch can be called.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a path that the hub names stays inside the snapshot.
pub(super) fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\\')
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Paths of the files below a directory, with `/`.
pub(super) fn paths(directory: &Path) -> BTreeSet<String> {
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
    fn a_path_of_the_hub_cannot_lead_out() {
        for inside in ["model_index.json", "vae/config.json", "a/b/c"] {
            assert!(stays_inside(inside), "{inside}");
        }
        for outside in ["", "/etc/passwd", "../x", "a/../../x", "./x", "a\\..\\x"] {
            assert!(!stays_inside(outside), "{outside}");
        }
    }

    #[test]
    fn a_repository_is_found_by_its_folder() {
        let cache = tempfile::tempdir().expect("a directory");
        let folder = Folder::new(cache.path(), "owner/some--name");
        folder.make().expect("folders");
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let checksum = Checksum::of_name(&"a".repeat(64)).expect("a checksum");
        fs::write(folder.blob(&checksum), "text").expect("content");
        folder.link(commit, "vae/config.json", &checksum).expect("a link");
        folder.link(commit, "vae/config.json", &checksum).expect("the same link");
        folder.refer("main", commit).expect("a reference");
        let path = folder.snapshot(commit).join("vae/config.json");
        assert_eq!(fs::read_to_string(&path).expect("content"), "text");
        assert!(fs::read_link(&path).expect("a link").starts_with("../../../blobs"));
        assert_eq!((folder.commit("main").as_deref(), folder.commit("other")), (Some(commit), None));
        assert_eq!(folder.commits(), [commit]);
        assert_eq!(Folder::all(cache.path())[0].0, "owner/some--name");
        assert_eq!(paths(&folder.snapshot(commit)), BTreeSet::from(["vae/config.json".to_owned()]));
        fs::remove_file(folder.blob(&checksum)).expect("a file less");
        assert_eq!(paths(&folder.snapshot(commit)), BTreeSet::new());
    }
}
