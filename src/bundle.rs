//! `latentd bundle` and `latentd unbundle`: a model with everything that it needs to serve, in one file, for machines
//! without a network.
//!
//! A bundle is a tar archive, without compression, which weights gain nothing from. First is a manifest, then each content
//! once, named by its SHA-256, in the manifest's order. There is no date in it: bundles of the same files are equal.

mod choose;
mod manifest;
mod read;
mod serve_line;
mod write;

pub(crate) use read::unbundle;
pub(crate) use write::bundle;

use crate::progress::Progress;
use sha2::{Digest, Sha256};
use std::io::{BufReader, Read};

/// Bytes read and written at a time.
const CHUNK: usize = 1 << 20;

/// Reads through to what it wraps, counts and digests what comes, and shows it.
struct Digesting<'a, R> {
    inner: BufReader<R>,
    digest: Sha256,
    bytes: u64,
    progress: &'a Progress,
}

impl<'a, R: Read> Digesting<'a, R> {
    fn new(inner: R, progress: &'a Progress) -> Self {
        let inner = BufReader::with_capacity(CHUNK, inner);
        Self { inner, digest: Sha256::new(), bytes: 0, progress }
    }

    /// How many bytes came, and their SHA-256.
    fn end(self) -> (u64, String) {
        (self.bytes, hex::encode(self.digest.finalize()))
    }
}

impl<R: Read> Read for Digesting<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        self.digest.update(&into[..read]);
        self.bytes += read as u64;
        self.progress.add(read as u64)?;
        Ok(read)
    }
}
