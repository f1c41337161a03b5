//! A repository of the cache inside a bundle: which files it has, under which checksums. What a bundle says is checked
//! here before anything is written by it.

use crate::cache::{RepoCache, is_commit, paths, stays_inside};
use crate::checksum::{Checksum, Hasher};
use crate::error::HubError;
use crate::files::Files;
use crate::{is_repository, verify};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes of a path's component, as file systems have it.
const MAX_NAME: usize = 255;

/// Most components of a path.
const MAX_DEPTH: usize = 16;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A repository at a commit, with some of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledRepo {
    /// `owner/name`.
    pub repository: String,
    /// The branch, tag or commit that it is found by.
    pub revision: String,
    /// The commit.
    pub commit: String,
    /// Its files.
    pub files: Vec<BundledFile>,
}

/// A file of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledFile {
    /// Its path in the repository.
    pub path: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// The checksum by which the cache names its content: the same, or git's SHA-1.
    pub blob: String,
}

impl BundledRepo {
    /// Whether the cache can have a repository like this.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        let Self { repository, revision, commit, files } = self;
        if !is_repository(repository) || repository.len() > MAX_NAME / 2 {
            return Err(format!("{repository:?} is no repository, OWNER/NAME"));
        }
        if !is_commit(commit) || !is_revision(revision) || (is_commit(revision) && revision != commit) {
            return Err(format!("{repository} has no revision {revision:?} at the commit {commit:?}"));
        }
        let mut known = BTreeSet::new();
        for file in files {
            file.check().map_err(|why| format!("{repository}: {why}"))?;
            if !known.insert(file.path.as_str()) {
                return Err(format!("{repository} has {:?} twice", file.path));
            }
        }
        let folders = |path: &'_ str| -> Vec<String> {
            path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
        };
        let both = known.iter().flat_map(|path| folders(path)).find(|folder| known.contains(folder.as_str()));
        both.map_or(Ok(()), |path| Err(format!("{repository} has {path:?} as a file and as a folder")))
    }
}

impl BundledFile {
    fn check(&self) -> Result<(), String> {
        let Self { path, sha256, blob } = self;
        let parts = || path.split('/');
        if !stays_inside(path)
            || path.chars().any(char::is_control)
            || parts().any(|part| part.is_empty() || part.len() > MAX_NAME)
            || parts().count() > MAX_DEPTH
        {
            return Err(format!("{path:?} is no path inside it"));
        }
        match (Checksum::from_name(sha256), Checksum::from_name(blob)) {
            (Some(Checksum::Sha256(_)), Some(Checksum::GitBlob(_))) => Ok(()),
            (Some(Checksum::Sha256(content)), Some(Checksum::Sha256(blob))) if content == blob => Ok(()),
            _ => Err(format!("{path:?} has no proper checksum")),
        }
    }
}

/// Whether a text can be a branch, a tag or a commit.
fn is_revision(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.len() <= MAX_NAME;
    text.chars().all(allowed) && text.split('/').all(part) && text.split('/').count() <= MAX_DEPTH
}

/// The files of a directory that a model needs, and those that are missing.
///
/// # Errors
/// The directory is not a model that can be run.
pub fn needed_files(
    directory: &Path,
    repository: &str,
    files: &Files,
) -> Result<(BTreeSet<String>, Vec<String>), HubError> {
    let selection = verify::select(directory, repository, files)?;
    Ok((selection.paths, selection.missing))
}

/// Every file below a directory but hidden ones, with `/`.
pub fn all_files(directory: &Path) -> BTreeSet<String> {
    let is_hidden = |path: &String| path.split('/').any(|part| part.starts_with('.'));
    paths(directory).into_iter().filter(|path| !is_hidden(path)).collect()
}

/// A file of the cache, or of a download's folder, for a bundle: its content is read where its SHA-256 is not known yet, in
/// pieces of which `on_read` is told.
///
/// # Errors
/// It cannot be read, or is not what the hub gave.
pub fn bundled_file(
    directory: &Path,
    path: &str,
    on_read: impl FnMut(u64) -> std::io::Result<()>,
) -> Result<BundledFile, HubError> {
    let known = verify::checksum(directory, path);
    if let Some(Checksum::Sha256(name)) = known {
        return Ok(BundledFile { path: path.into(), sha256: name.clone(), blob: name });
    }
    let full = directory.join(path);
    let (sha256, is_right) = digest(&full, known.as_ref(), on_read).map_err(HubError::io(full.clone()))?;
    if !is_right {
        return Err(HubError::DamagedFile { path: full });
    }
    let blob = known.map_or_else(|| sha256.clone(), |known| known.name().to_owned());
    Ok(BundledFile { path: path.into(), sha256, blob })
}

/// The SHA-256 of a file, and whether it has the checksum that is known of it.
fn digest(
    path: &Path,
    known: Option<&Checksum>,
    mut on_read: impl FnMut(u64) -> std::io::Result<()>,
) -> std::io::Result<(String, bool)> {
    let mut file = File::open(path)?;
    let mut of_hub =
        known.map(|known| file.metadata().map(|found| Hasher::new(known, found.len()))).transpose()?;
    let mut sha256 = Hasher::sha256();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        sha256.update(&chunk[..count]);
        of_hub.iter_mut().for_each(|hasher| hasher.update(&chunk[..count]));
        on_read(count as u64)?;
    }
    let is_right = known.zip(of_hub).is_none_or(|(known, hasher)| hasher.equals(known));
    Ok((sha256.name(), is_right))
}

/// The commit of a directory of the cache, `…/snapshots/COMMIT`.
pub fn commit_of_snapshot(directory: &Path) -> Option<&str> {
    directory.file_name()?.to_str().filter(|name| is_commit(name))
}

/// The directory in the cache of a repository at a commit.
pub fn snapshot_directory(cache: &Path, repo: &BundledRepo) -> std::path::PathBuf {
    RepoCache::new(cache, &repo.repository).snapshot(&repo.commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(paths: &[&str]) -> BundledRepo {
        let file = |path: &&str| BundledFile {
            path: (*path).to_owned(),
            sha256: "a".repeat(64),
            blob: "b".repeat(40),
        };
        BundledRepo {
            repository: "me/tiny".into(),
            revision: "main".into(),
            commit: "c".repeat(40),
            files: paths.iter().map(file).collect(),
        }
    }

    #[test]
    fn what_leads_out_of_a_repository_is_refused() {
        let good = ["model_index.json", "vae/config.json", "vae/weights é.safetensors"];
        assert_eq!(repo(&good).check(), Ok(()));
        let long = "x".repeat(256);
        let deep = "x/".repeat(16) + "x";
        for path in ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/", "a\\b", "a\nb", &long, &deep] {
            assert!(repo(&[path]).check().is_err(), "{path}");
        }
        assert!(repo(&["a", "a"]).check().is_err_and(|why| why.contains("twice")));
        assert!(repo(&["a/b", "a"]).check().is_err_and(|why| why.contains("as a folder")));
    }

    #[test]
    fn names_and_checksums_are_those_of_a_cache() {
        let refused = |change: fn(&mut BundledRepo)| {
            let mut repo = repo(&["a"]);
            change(&mut repo);
            assert!(repo.check().is_err(), "{repo:?}");
        };
        refused(|repo| repo.repository = "../tiny".into());
        refused(|repo| repo.repository = format!("me/{}", "x".repeat(200)));
        refused(|repo| repo.commit = "main".into());
        refused(|repo| repo.revision = "../main".into());
        refused(|repo| repo.revision = "d".repeat(40));
        refused(|repo| repo.files[0].sha256 = "a".repeat(40));
        refused(|repo| repo.files[0].blob = "b".repeat(64));
        refused(|repo| repo.files[0].blob = "../b".into());
    }
}
