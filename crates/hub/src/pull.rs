//! A pull: lists a repository, selects the files that the model needs, and downloads those that the cache lacks.

use crate::cache::RepoCache;
use crate::checksum::Checksum;
use crate::client::Client;
use crate::error::{self, HubError};
use crate::files::{INDEX, Selection};
use crate::listing::{self, Entry, Listing};
use crate::progress::{Progress, ProgressOutput};
use crate::{Files, HubConfig, ModelRepo, transfer};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files that are downloaded at a time.
const CONCURRENT_FILES: usize = 4;

/// Whether a pull computes the checksums of files that are in the cache already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recheck {
    /// Yes, and downloads damaged ones again.
    Yes,
    /// No.
    No,
}

/// A content that is needed, with every path that has it.
struct Content {
    checksum: Checksum,
    size: u64,
    paths: Vec<String>,
}

/// A pull in progress.
struct Pull<'a> {
    client: &'a Client,
    cache: &'a RepoCache,
    commit: &'a str,
}

/// Downloads what the cache lacks of a repository, as it is on the hub now, and returns the directory of its files.
/// Listens for Ctrl-C meanwhile, which ends it with [`HubError::Interrupted`].
///
/// # Errors
/// It cannot be downloaded; the text says what the user can do.
pub async fn pull(
    hub: &HubConfig,
    repo: &ModelRepo,
    output: ProgressOutput,
    recheck: Recheck,
) -> Result<PathBuf, HubError> {
    if let Some(why) = hub.offline {
        return Err(HubError::Offline(why));
    }
    let client = Client::new(hub, &repo.repository, &repo.revision)?;
    let cache = RepoCache::new(&hub.cache, &repo.repository);
    let listing = listing::list(&client).await?;
    cache.create()?;
    let pull = Pull { client: &client, cache: &cache, commit: &listing.commit };
    let selection = pull.select(repo, &listing).await?;
    let mut contents = contents(&selection, &listing);
    if recheck == Recheck::Yes {
        remove_damaged(&cache, &contents).await?;
    }
    // The largest file starts first, so that all end at about the same time.
    contents.sort_by_key(|content| std::cmp::Reverse(content.size));
    let missing = contents.iter().map(|content| content.size - bytes_present(&cache, content)).sum();
    if let Files::Adapter { max_bytes, .. } = repo.files
        && missing > max_bytes
    {
        let repository = repo.repository.clone();
        return Err(HubError::TooLarge { repository, bytes: missing, max: max_bytes });
    }
    check_space_for(hub, missing)?;
    pull.download_all(&contents, output).await?;
    cache.set_ref(&repo.revision, &listing.commit)?;
    Ok(cache.snapshot(&listing.commit))
}

impl Pull<'_> {
    /// The files that are needed; which ones, the index says, which is downloaded first.
    async fn select(&self, repo: &ModelRepo, listing: &Listing) -> Result<Selection, HubError> {
        let needs_index = matches!(repo.files, Files::Pipeline { .. });
        let index = match listing.files.get(INDEX).filter(|_| needs_index) {
            Some(entry) => {
                let progress = Progress::new(ProgressOutput::None, [(INDEX.to_owned(), entry.size, 0)]);
                transfer::download(self.client, self.cache, self.commit, INDEX, entry, progress.item(0))
                    .await?;
                let path = self.cache.blob(&entry.checksum);
                Some(std::fs::read(&path).map_err(HubError::io(path))?)
            }
            None => None,
        };
        let paths = listing.files.keys().cloned().collect();
        let selection = repo.files.select(&repo.repository, index.as_deref(), &paths)?;
        if selection.missing.is_empty() {
            return Ok(selection);
        }
        let files = error::named(&selection.missing);
        if let Files::Adapter { .. } = repo.files {
            let why = format!("it has no file {files}");
            return Err(HubError::NoAdapter { repository: repo.repository.clone(), why });
        }
        let why = format!("it is not in the diffusers layout in full precision, it has no {files}");
        Err(HubError::NotRunnable { repository: repo.repository.clone(), why })
    }

    /// Downloads every content and links its paths to it, several at a time.
    async fn download_all(&self, contents: &[Content], output: ProgressOutput) -> Result<(), HubError> {
        let files = contents.iter().map(|content| {
            let have = bytes_present(self.cache, content);
            (content.paths[0].clone(), content.size, have)
        });
        let progress = Progress::new(output, files);
        progress.event(&json!({
            "event": "start", "repository": self.client.repository, "commit": self.commit,
            "files": contents.iter().map(|content| content.paths.len()).sum::<usize>(),
            "bytes": progress.have(), "total_bytes": progress.size(),
        }));
        let one = |(index, content)| self.download(content, &progress, index);
        let all = stream::iter(contents.iter().enumerate().map(one)).buffer_unordered(CONCURRENT_FILES);
        let interrupted = || HubError::Interrupted { have: progress.have(), total: progress.size() };
        tokio::select! {
            done = all.try_collect::<()>() => done,
            () = progress.watch() => Ok(()), // never returns
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
        }
    }

    async fn download(&self, content: &Content, progress: &Progress, index: usize) -> Result<(), HubError> {
        let item = progress.item(index);
        let Content { checksum, size, paths } = content;
        if !self.cache.has(checksum, *size) {
            item.start();
            let entry = Entry { size: *size, checksum: checksum.clone() };
            transfer::download(self.client, self.cache, self.commit, &paths[0], &entry, item).await?;
        }
        for path in paths {
            self.cache.link(self.commit, path, checksum)?;
        }
        item.finish();
        Ok(())
    }
}

/// Several paths may have one content, as the two CLIP vocabularies do.
fn contents(selection: &Selection, listing: &Listing) -> Vec<Content> {
    let mut by_checksum = BTreeMap::<Checksum, Content>::new();
    for path in &selection.paths {
        let Some(entry) = listing.files.get(path) else { continue };
        let Entry { size, checksum } = entry.clone();
        let fresh = Content { checksum: checksum.clone(), size, paths: Vec::new() };
        by_checksum.entry(checksum).or_insert(fresh).paths.push(path.clone());
    }
    by_checksum.into_values().collect()
}

/// Bytes of a content that are in the cache.
fn bytes_present(cache: &RepoCache, content: &Content) -> u64 {
    if cache.has(&content.checksum, content.size) {
        return content.size;
    }
    let part = std::fs::metadata(cache.incomplete(&content.checksum));
    part.map_or(0, |part| part.len().min(content.size))
}

/// Refuses a download of a repository of about `bytes` that the disk has no space for, what the cache has taken off.
///
/// # Errors
/// There is too little space.
pub fn check_free_space(hub: &HubConfig, repository: &str, bytes: u64) -> Result<(), HubError> {
    let cached = RepoCache::new(&hub.cache, repository).bytes();
    check_space_for(hub, bytes.saturating_sub(cached))
}

fn check_space_for(hub: &HubConfig, needed: u64) -> Result<(), HubError> {
    match free_space(&hub.cache) {
        Some(free) if free < needed => Err(HubError::NoSpace { needed, free, path: hub.cache.clone() }),
        _ => Ok(()),
    }
}

/// Bytes that this user may still write on the disk of a path, which need not exist yet.
pub fn free_space(path: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(path.ancestors().find(|path| path.exists())?).ok()?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// Removes contents whose checksum is wrong.
async fn remove_damaged(cache: &RepoCache, contents: &[Content]) -> Result<(), HubError> {
    for content in contents.iter().filter(|content| cache.has(&content.checksum, content.size)) {
        let (path, checksum) = (cache.blob(&content.checksum), content.checksum.clone());
        let blob = path.clone();
        let matches = tokio::task::spawn_blocking(move || checksum.matches(&blob)).await;
        if !matches.map_err(|error| HubError::io(&path)(std::io::Error::other(error)))?? {
            tracing::warn!("{} is damaged and is fetched again", content.paths[0]);
            std::fs::remove_file(&path).map_err(HubError::io(path))?;
        }
    }
    Ok(())
}
