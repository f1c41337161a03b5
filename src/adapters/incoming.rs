//! An adapter's file on its way to the disk: bounded, and refused as soon as its first bytes show that it is none.

use super::partial::Partial;
use latentd_models::{FILE_START, check_start};
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;

/// Bytes that are collected before they are written.
const BATCH: usize = 1 << 20;

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It has more bytes than this.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// It cannot be an adapter.
    #[error("{0}")]
    Unusable(String),
    /// It cannot be written.
    #[error("the file of an adapter cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// A file that is being received.
pub struct Incoming {
    /// `None` while a thread writes.
    written: Option<Written>,
    batch: Vec<u8>,
    /// As announced.
    size: Option<u64>,
    received: u64,
    max_bytes: u64,
    is_checked: bool,
}

/// What is on the disk.
pub(super) struct Written {
    pub(super) partial: Partial,
    pub(super) hash: Sha256,
}

impl Incoming {
    /// Begins a file of at most so many bytes in a folder of partial files.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn create(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        let written = Some(Written { partial: Partial::create(folder)?, hash: Sha256::new() });
        Ok(Self { written, batch: Vec::new(), size: None, received: 0, max_bytes, is_checked: false })
    }

    /// The same for a config file, whose first bytes say nothing.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn create_config(folder: &Path, max_bytes: u64) -> io::Result<Self> {
        Ok(Self { is_checked: true, ..Self::create(folder, max_bytes)? })
    }

    /// Notes the size that was announced, if one was.
    ///
    /// # Errors
    /// It is too large.
    pub fn announce(&mut self, size: Option<u64>) -> Result<(), Refused> {
        self.size = size;
        if size.is_some_and(|size| size > self.max_bytes) { Err(self.too_large()) } else { Ok(()) }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// They are too many, or the file's first bytes show that it cannot be an adapter.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.received += bytes.len() as u64;
        if self.received > self.max_bytes {
            return Err(self.too_large());
        }
        self.batch.extend_from_slice(bytes);
        if self.batch.len() >= FILE_START {
            self.check()?;
        }
        if self.batch.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// It cannot be an adapter, or it cannot be written.
    pub(super) async fn finish(mut self) -> Result<(Written, u64), Refused> {
        self.size = Some(self.received);
        self.check()?;
        self.flush().await?;
        let received = self.received;
        let written = self.written.take().ok_or_else(|| io::Error::other("an earlier write failed"))?;
        Ok((written, received))
    }

    /// Looks at the first bytes, once.
    fn check(&mut self) -> Result<(), Refused> {
        if self.is_checked {
            return Ok(());
        }
        self.is_checked = true;
        let start = &self.batch[..self.batch.len().min(FILE_START)];
        check_start(start, self.size).map_err(Refused::Unusable)
    }

    async fn flush(&mut self) -> Result<(), Refused> {
        let mut written = self.written.take().ok_or_else(|| io::Error::other("an earlier write failed"))?;
        let batch = std::mem::take(&mut self.batch);
        let write = move || {
            written.hash.update(&batch);
            written.partial.write(&batch).map(|()| written)
        };
        self.written = Some(tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??);
        Ok(())
    }

    fn too_large(&self) -> Refused {
        Refused::TooLarge(self.max_bytes)
    }
}
