//! Fetched adapters, kept by their content up to a number of bytes; those that were not used for longest are removed, but
//! none that a request uses.
//!
//! ```text
//! content/SHA256.safetensors    a file; its time of access is when a request used it last
//! sources/SHA256                for the digest of a URL or other place: which content it had, and its validators
//! partial/UUID                  a file that is being written, or one request's own; locked by its process
//! ```
//!
//! Several processes share the folder. A file gets its name when all of it is on the disk; a user holds a shared lock on
//! it, without which nobody removes it.

use super::HeldFile;
use super::incoming::{Incoming, Refused, Written};
use super::partial::{self, Partial, is_locked};
use latentd_egress::Validators;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

const CONTENT: &str = "content";
const SOURCES: &str = "sources";
const PARTIAL: &str = "partial";

/// The cache; clones share it.
#[derive(Clone)]
pub struct AdapterCache {
    folder: Arc<PathBuf>,
    /// Bytes of contents that are kept.
    limit: u64,
}

/// Where a file came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// This URL.
    Url(&'a str),
    /// An upload of this public name.
    Upload(&'a str),
    /// `owner/name@revision/file` of the hub.
    Hub(&'a str),
}

/// A place for a folder of one request.
pub struct TemporaryFolder(Partial);

impl TemporaryFolder {
    /// Where it is to be; there is nothing yet.
    pub fn path(&self) -> PathBuf {
        self.0.folder()
    }
}

/// What a place had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// SHA-256 of the content.
    content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<String>,
    /// The name of the upload that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<String>,
}

impl Entry {
    /// By which its server says whether it has changed.
    pub fn validators(&self) -> Validators {
        Validators { etag: self.etag.clone(), modified: self.modified.clone() }
    }
}

impl AdapterCache {
    /// Opens the cache in a folder, which is made, and removes what processes left there that died.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        for part in [CONTENT, SOURCES, PARTIAL] {
            crate::data_dir::make(&folder.join(part))?;
        }
        partial::remove_abandoned(&folder.join(PARTIAL))?;
        let cache = Self { folder: Arc::new(folder.to_owned()), limit };
        cache.make_space(0)?;
        Ok(cache)
    }

    /// What a place had when it was last read, and its file, marked as used now.
    pub async fn find(&self, origin: Origin<'_>) -> Option<(Entry, HeldFile)> {
        let (cache, source) = (self.clone(), self.source(origin));
        let find = move || {
            let entry: Entry = serde_json::from_slice(&fs::read(source).ok()?).ok()?;
            let file = HeldFile::cached(&cache.content(&entry.content)?)?;
            Some((entry, file))
        };
        tokio::task::spawn_blocking(find).await.ok()?
    }

    /// Begins a file of at most so many bytes.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn receive(&self, max_bytes: u64) -> io::Result<Incoming> {
        Incoming::create(&self.folder.join(PARTIAL), max_bytes)
    }

    /// Begins a config file of at most so many bytes, which stands beside an adapter.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn receive_config(&self, max_bytes: u64) -> io::Result<Incoming> {
        Incoming::create_config(&self.folder.join(PARTIAL), max_bytes)
    }

    /// Keeps a file that was received from a place, unless it is too large for the cache.
    ///
    /// # Errors
    /// It cannot be an adapter, or it cannot be written.
    pub async fn keep(
        &self,
        incoming: Incoming,
        origin: Origin<'_>,
        validators: Validators,
    ) -> Result<HeldFile, Refused> {
        let (written, bytes) = incoming.finish().await?;
        if bytes > self.limit {
            return Ok(HeldFile::own(written.partial)?);
        }
        let Validators { etag, modified } = validators;
        let upload = if let Origin::Upload(key) = origin { Some(key.to_owned()) } else { None };
        let entry = |content| Entry { content, etag, modified, upload };
        let (cache, source) = (self.clone(), self.source(origin));
        let publish = move || cache.publish(written, bytes, &source, entry);
        Ok(tokio::task::spawn_blocking(publish).await.map_err(io::Error::other)??)
    }

    /// A file that was received for one request, and is removed with it.
    ///
    /// # Errors
    /// It cannot be an adapter, or it cannot be written.
    pub async fn own(&self, incoming: Incoming) -> Result<HeldFile, Refused> {
        let (written, _) = incoming.finish().await?;
        Ok(HeldFile::own(written.partial)?)
    }

    /// A place for a folder, which is removed with what is returned.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self) -> io::Result<TemporaryFolder> {
        Ok(TemporaryFolder(Partial::create(&self.folder.join(PARTIAL))?))
    }

    /// The public names of the uploads of which there are copies.
    pub fn uploads(&self) -> Vec<String> {
        self.entries().filter_map(|(_, entry)| entry.upload).collect()
    }

    /// Removes the copy of an upload, unless a request uses it or another place has the same content.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn forget_upload(&self, key: &str) -> io::Result<()> {
        let source = self.source(Origin::Upload(key));
        let Some((_, forgotten)) = self.entries().find(|(path, _)| *path == source) else { return Ok(()) };
        let is_shared = self.entries().filter(|(_, entry)| entry.content == forgotten.content).count() > 1;
        if let Some(content) = self.content(&forgotten.content).filter(|_| !is_shared)
            && let Ok(file) = File::open(&content)
        {
            if !is_locked(file.try_lock()) {
                return Ok(()); // the next time
            }
            remove(&content)?;
        }
        remove(&source)
    }

    fn publish(
        &self,
        Written { partial, hash }: Written,
        bytes: u64,
        source: &Path,
        entry: impl FnOnce(String) -> Entry,
    ) -> io::Result<HeldFile> {
        let digest = hex::encode(hash.finalize());
        let content = self.folder.join(CONTENT).join(format!("{digest}.safetensors"));
        let held = match HeldFile::cached(&content) {
            Some(held) => Some(held),
            None => {
                self.make_space(bytes)?;
                partial.sync()?;
                HeldFile::published(&content, partial.rename(&content)?)
            }
        };
        let held = held.ok_or_else(|| io::Error::other("the adapter was removed from the cache at once"))?;
        let mut part = Partial::create(&self.folder.join(PARTIAL))?;
        part.write(&serde_json::to_vec(&entry(digest))?)?;
        part.rename(source)?;
        tracing::info!(bytes, path = %content.display(), "an adapter is kept");
        Ok(held)
    }

    /// Removes contents, those first that were not used for longest, until so many bytes fit.
    fn make_space(&self, bytes: u64) -> io::Result<()> {
        let mut kept = contents(&self.folder)?;
        kept.sort_by_key(|(_, _, used)| *used);
        let mut all = bytes + kept.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (path, bytes, _) in kept {
            if all <= self.limit {
                break;
            }
            let Ok(file) = File::open(&path) else { continue };
            if is_locked(file.try_lock()) {
                remove(&path)?;
                all -= bytes;
                tracing::info!(bytes, path = %path.display(), "an adapter is removed from the cache");
            }
        }
        for (path, entry) in self.entries() {
            if self.content(&entry.content).is_none_or(|content| !content.exists()) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> impl Iterator<Item = (PathBuf, Entry)> {
        let files = fs::read_dir(self.folder.join(SOURCES)).into_iter().flatten().flatten();
        files.filter_map(|file| {
            let path = file.path();
            let entry = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            Some((path, entry))
        })
    }

    fn content(&self, digest: &str) -> Option<PathBuf> {
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then(|| self.folder.join(CONTENT).join(format!("{digest}.safetensors")))
    }

    /// The file about a place. Its name is a digest, since a URL may be a permission.
    fn source(&self, origin: Origin<'_>) -> PathBuf {
        let (kind, name) = match origin {
            Origin::Url(url) => ("url", url),
            Origin::Upload(key) => ("upload", key),
            Origin::Hub(path) => ("hub", path),
        };
        self.folder.join(SOURCES).join(hex::encode(Sha256::digest(format!("{kind} {name}"))))
    }
}

/// Bytes of the adapters that are kept in a folder.
pub fn cached_bytes(folder: &Path) -> u64 {
    contents(folder).unwrap_or_default().iter().map(|(_, bytes, _)| bytes).sum()
}

/// Path, bytes and last use of each content.
fn contents(folder: &Path) -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
    let files = fs::read_dir(folder.join(CONTENT))?;
    let one = |file: io::Result<fs::DirEntry>| {
        let path = file?.path();
        let found = path.metadata()?;
        Ok((path, found.len(), found.accessed()?))
    };
    files.map(one).filter(|found| !matches!(found, Err(error) if is_gone(error))).collect()
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// Removes a file; one that another process removed is no error.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
}
