//! The transfer of one file: resumed where it stopped, its checksum verified, and only then given its name.

use crate::cache::RepoCache;
use crate::checksum::{Checksum, Hasher};
use crate::client::{Client, broken, unreachable};
use crate::error::{Failure, HubError};
use crate::listing::Entry;
use crate::progress::Item;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::header::CONTENT_RANGE;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use url::Url;

/// Attempts in a row that may transfer no byte.
const ATTEMPTS: u32 = 6;

/// Chunks that may wait for the disk.
const QUEUED_CHUNKS: usize = 16;

/// Downloads the content of `entry`, the file `path`, unless the cache has it.
pub(crate) async fn download(
    client: &Client,
    cache: &RepoCache,
    commit: &str,
    path: &str,
    entry: &Entry,
    item: &Item,
) -> Result<(), HubError> {
    let on_wait = || item.note("another process fetches it; waiting");
    let lock = Arc::new(cache.lock(&entry.checksum, on_wait).await?);
    if cache.has(&entry.checksum, entry.size) {
        item.set(entry.size); // the process that had the lock wrote it
        return Ok(());
    }
    let url = client.url(client.repository.split('/').chain(["resolve", commit]).chain(path.split('/')));
    let file = cache.incomplete(&entry.checksum);
    for is_last in [false, true] {
        let part = transfer(client, &url, &file, entry, item, &lock).await?;
        if part.hasher.equals(&entry.checksum) {
            let blob = cache.blob(&entry.checksum);
            return in_background(move || publish(part, &blob)).await;
        }
        std::fs::remove_file(&file).map_err(HubError::io(&file))?;
        item.set(0);
        if !is_last {
            item.note("it arrived damaged; fetching it once more");
        }
    }
    Err(HubError::Damaged { path: path.into(), expected: entry.checksum.to_string() })
}

/// Makes a verified file durable, and then visible.
fn publish(part: Part, blob: &Path) -> Result<(), HubError> {
    part.file.sync_all().map_err(HubError::io(&part.path))?;
    std::fs::rename(&part.path, blob).map_err(HubError::io(blob))
}

/// The part of a file that was transferred, and its checksum so far.
struct Part {
    file: File,
    length: u64,
    hasher: Hasher,
    path: PathBuf,
    /// Held until the last write, also when the transfer was cancelled.
    _lock: Arc<File>,
}

impl Part {
    /// Opens the part that an earlier pull left, if there is one.
    fn open(path: PathBuf, entry: &Entry, lock: Arc<File>) -> Result<Self, HubError> {
        let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = open.map_err(HubError::io(&path))?;
        let length = file.metadata().map_err(HubError::io(&path))?.len();
        let hasher = Hasher::new(&entry.checksum, entry.size);
        let mut part = Self { file, length, hasher, path, _lock: lock };
        if length > entry.size {
            part.restart(&entry.checksum, entry.size)?;
        }
        part.hasher.read(&part.file).map_err(HubError::io(&part.path))?;
        Ok(part)
    }

    fn restart(&mut self, checksum: &Checksum, size: u64) -> Result<(), HubError> {
        self.file.set_len(0).map_err(HubError::io(&self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(HubError::io(&self.path))?;
        (self.length, self.hasher) = (0, Hasher::new(checksum, size));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(HubError::io(&self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Transfers the file to its last byte; its checksum is not verified yet.
async fn transfer(
    client: &Client,
    url: &Url,
    path: &Path,
    entry: &Entry,
    item: &Item,
    lock: &Arc<File>,
) -> Result<Part, HubError> {
    let (path, expected, lock) = (path.to_path_buf(), entry.clone(), lock.clone());
    let mut part = in_background(move || Part::open(path, &expected, lock)).await?;
    let mut failed = 0;
    while part.length < entry.size {
        let before = part.length;
        item.set(before);
        let outcome;
        (part, outcome) = stream(client, url, part, entry, item).await?;
        let Err(failure) = outcome else { continue };
        let (error, wait) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Temporary { error, wait } => (error, wait),
        };
        failed = if part.length > before { 1 } else { failed + 1 };
        if failed >= ATTEMPTS {
            return Err(error);
        }
        let pause = client.pause(failed, wait);
        item.note(&format!("{}; going on in {:.0} s", error.cause(), pause.as_secs_f32()));
        tokio::time::sleep(pause).await;
    }
    item.set(part.length);
    Ok(part)
}

/// Appends the bytes of one response. Returns the part beside the outcome, for only an error of the disk loses it.
async fn stream(
    client: &Client,
    url: &Url,
    mut part: Part,
    entry: &Entry,
    item: &Item,
) -> Result<(Part, Result<(), Failure>), HubError> {
    let response = match client.get(url, part.length).await {
        Ok(response) => response,
        Err(failure) => return Ok((part, Err(failure))),
    };
    let resumes = response.status() == StatusCode::PARTIAL_CONTENT
        && response.headers().get(CONTENT_RANGE).and_then(|range| first_byte(range.to_str().ok()?))
            == Some(part.length);
    if part.length > 0 && !resumes {
        // A server without support for ranges sends the whole file.
        part.restart(&entry.checksum, entry.size)?;
        item.set(0);
        if response.status() == StatusCode::PARTIAL_CONTENT {
            return Ok((part, Err(unreachable(url, "it sent another part than it was asked for"))));
        }
    }
    let mut left = entry.size - part.length;
    let (send, receive) = mpsc::channel(QUEUED_CHUNKS);
    let writer = tokio::task::spawn_blocking(move || write_all(part, receive));
    let mut body = response.into_body();
    let outcome = loop {
        let frame = match tokio::time::timeout(client.stall, body.frame()).await {
            Err(_) => break Err(client.stalled(url)),
            Ok(None) if left > 0 => break Err(unreachable(url, "the answer ended too early")),
            Ok(None) => break Ok(()),
            Ok(Some(Err(error))) => break Err(broken(url, &error)),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(mut bytes) = frame.into_data() else { continue };
        // Bytes beyond the file's end do not belong to it.
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= bytes.len() as u64;
        item.add(bytes.len() as u64);
        if send.send(bytes).await.is_err() {
            break Ok(()); // the writer returns the error
        }
        if left == 0 {
            break Ok(());
        }
    };
    drop(send);
    let part = writer.await.map_err(|error| HubError::io("writing")(std::io::Error::other(error)))??;
    Ok((part, outcome))
}

/// The first byte of `bytes 100-199/200`.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// Writes and hashes the chunks on a thread for blocking work.
fn write_all(mut part: Part, mut chunks: mpsc::Receiver<Bytes>) -> Result<Part, HubError> {
    while let Some(bytes) = chunks.blocking_recv() {
        part.write(&bytes)?;
    }
    Ok(part)
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HubError> + Send + 'static,
) -> Result<T, HubError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| HubError::io("a file of the cache")(std::io::Error::other(error)))?
}
