//! `latentd backup` and `latentd restore`: everything that a server keeps, as of one moment, in one tar archive.
//!
//! In the archive are the database, copied by SQLite while others may write it, the files that the copy owns, the server's
//! keys, and last a manifest with the size and digest of each. An archive without a manifest is incomplete.

mod read;
mod write;

pub(crate) use read::restore;
pub(crate) use write::backup;

use crate::config::StoreConfig;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// The folder of the files.
fn folder(store: &StoreConfig) -> anyhow::Result<&Path> {
    store.files.directory().with_context(|| {
        format!(
            "--storage {}: backup and restore are for files in a directory; copy the bucket by its own means, and the database as docs/storage.md says",
            store.files
        )
    })
}

/// Version of the format that is written and read.
const FORMAT: u32 = 1;

/// Name of the manifest, which is the last entry.
const MANIFEST: &str = "manifest.json";

/// Name of the database's copy.
const DATABASE: &str = "database.sqlite";

/// Folder of the files.
const FILES: &str = "files/";

/// Folder of what lies in the data directory beside database and files.
const DATA: &str = "data/";

/// Files there that a start would not make again.
const KEYS: [&str; 2] = [SIGNING_KEY, "intercept/ca-key.pk8"];

/// The key that signs webhooks and tokens, unless a flag names another file.
const SIGNING_KEY: &str = "webhook-key.pk8";

/// The manifest of an archive.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Version of the program that made it.
    version: String,
    /// Id of the database.
    database: String,
    /// When it was begun.
    created_at: String,
    entries: Vec<Entry>,
}

/// One entry of the archive.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Entry {
    path: String,
    bytes: u64,
    sha256: String,
}

/// Reads through to what it wraps, and counts and digests what comes.
struct Digesting<R> {
    inner: R,
    digest: Sha256,
    bytes: u64,
}

impl<R> Digesting<R> {
    fn new(inner: R) -> Self {
        Self { inner, digest: Sha256::new(), bytes: 0 }
    }

    /// What came, as an entry.
    fn entry(self, path: &str) -> Entry {
        Entry { path: path.to_owned(), bytes: self.bytes, sha256: hex::encode(self.digest.finalize()) }
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        self.digest.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
