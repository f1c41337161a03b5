//! A pull: lists a repository, chooses its files, and brings those that are not here.

use super::api::{self, Entry, Listing};
use super::cache::Folder;
use super::client::Client;
use super::digest::Checksum;
use super::error::HubError;
use super::fetch;
use super::files::{INDEX, Selection};
use super::progress::{Progress, Show};
use super::{Wanted, error};
use crate::config::HubConfig;
use crate::disk;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Files that are fetched at a time.
const AT_ONCE: usize = 4;

/// A content that is wanted, with every path that has it.
struct Content {
    checksum: Checksum,
    size: u64,
    paths: Vec<String>,
}

/// A pull under way.
struct Pull<'a> {
    client: &'a Client,
    folder: &'a Folder,
    commit: &'a str,
}

/// Brings a snapshot up to date; `again` looks at the checksums of what is here, too.
pub(super) async fn pull(
    hub: &HubConfig,
    wanted: &Wanted,
    show: Show,
    again: bool,
) -> Result<PathBuf, HubError> {
    if let Some(why) = hub.offline {
        return Err(HubError::Offline(why));
    }
    let client = Client::new(hub, &wanted.repository, &wanted.revision)?;
    let folder = Folder::new(&hub.cache, &wanted.repository);
    let listing = api::list(&client).await?;
    folder.make()?;
    let pull = Pull { client: &client, folder: &folder, commit: &listing.commit };
    let selection = pull.choose(wanted, &listing).await?;
    let mut contents = contents(&selection, &listing);
    if again {
        drop_damaged(&folder, &contents).await?;
    }
    // What takes longest begins first, and all end together.
    contents.sort_by_key(|content| std::cmp::Reverse(content.size));
    make_room(hub, &folder, &contents)?;
    pull.fetch(&contents, show).await?;
    folder.refer(&wanted.revision, &listing.commit)?;
    Ok(folder.snapshot(&listing.commit))
}

impl Pull<'_> {
    /// The files that are wanted, for which the index is needed first.
    async fn choose(&self, wanted: &Wanted, listing: &Listing) -> Result<Selection, HubError> {
        let index = match listing.files.get(INDEX) {
            Some(entry) => {
                let progress = Progress::new(Show::Nobody, [(INDEX.to_owned(), entry.size, 0)]);
                fetch::content(self.client, self.folder, self.commit, INDEX, entry, progress.item(0)).await?;
                let path = self.folder.blob(&entry.checksum);
                Some(std::fs::read(&path).map_err(HubError::io(path))?)
            }
            None => None,
        };
        let paths = listing.files.keys().cloned().collect();
        let selection = wanted.files.choose(&wanted.repository, index.as_deref(), &paths)?;
        if selection.missing.is_empty() {
            return Ok(selection);
        }
        let files = error::named(&selection.missing);
        let why = format!("it is not in the diffusers layout in full precision, it has no {files}");
        Err(HubError::NotRunnable { repository: wanted.repository.clone(), why })
    }

    /// Brings every content and gives it its paths, several at a time.
    async fn fetch(&self, contents: &[Content], show: Show) -> Result<(), HubError> {
        let files = contents.iter().map(|content| {
            let have = here(self.folder, content);
            (content.paths[0].clone(), content.size, have)
        });
        let progress = Progress::new(show, files);
        progress.event(&json!({
            "event": "start", "repository": self.client.repository, "commit": self.commit,
            "files": contents.iter().map(|content| content.paths.len()).sum::<usize>(),
            "bytes": progress.have(), "total_bytes": progress.size(),
        }));
        let one = |(index, content)| self.bring(content, &progress, index);
        let all = stream::iter(contents.iter().enumerate().map(one)).buffer_unordered(AT_ONCE);
        let interrupted = || HubError::Interrupted { have: progress.have(), total: progress.size() };
        tokio::select! {
            done = all.try_collect::<()>() => done,
            () = progress.watch() => Ok(()), // never ends
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
        }
    }

    async fn bring(&self, content: &Content, progress: &Progress, index: usize) -> Result<(), HubError> {
        let item = progress.item(index);
        let Content { checksum, size, paths } = content;
        if !self.folder.has(checksum, *size) {
            item.begin();
            let entry = Entry { size: *size, checksum: checksum.clone() };
            fetch::content(self.client, self.folder, self.commit, &paths[0], &entry, item).await?;
        }
        for path in paths {
            self.folder.link(self.commit, path, checksum)?;
        }
        item.end();
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

/// Bytes that are here of a content.
fn here(folder: &Folder, content: &Content) -> u64 {
    if folder.has(&content.checksum, content.size) {
        return content.size;
    }
    let part = std::fs::metadata(folder.incomplete(&content.checksum));
    part.map_or(0, |part| part.len().min(content.size))
}

/// Says before anything is fetched that it would not fit.
fn make_room(hub: &HubConfig, folder: &Folder, contents: &[Content]) -> Result<(), HubError> {
    let needed = contents.iter().map(|content| content.size - here(folder, content)).sum();
    match disk::free(&hub.cache) {
        Some(free) if free < needed => Err(HubError::NoSpace { needed, free, path: hub.cache.clone() }),
        _ => Ok(()),
    }
}

/// Takes away what is here and is not what it must be.
async fn drop_damaged(folder: &Folder, contents: &[Content]) -> Result<(), HubError> {
    for content in contents.iter().filter(|content| folder.has(&content.checksum, content.size)) {
        let (path, checksum) = (folder.blob(&content.checksum), content.checksum.clone());
        let looked_at = path.clone();
        let holds = tokio::task::spawn_blocking(move || checksum.holds(&looked_at)).await;
        if !holds.map_err(|error| HubError::io(&path)(std::io::Error::other(error)))?? {
            tracing::warn!("{} is damaged and is fetched again", content.paths[0]);
            std::fs::remove_file(&path).map_err(HubError::io(path))?;
        }
    }
    Ok(())
}
