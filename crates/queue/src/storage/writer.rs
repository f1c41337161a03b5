//! A file that comes in pieces: written as they come, there when it is whole.

use super::StorageError;
use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, PutPayload};
use std::path::PathBuf;

/// What is gathered before it is written, so that memory does not grow with the file: little, for there may be many.
const CHUNK: usize = 64 * 1024;

/// Writes one file. Dropped before the end, it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    upload: Box<dyn MultipartUpload>,
    path: PathBuf,
    gathered: BytesMut,
    size: u64,
}

impl Writer {
    pub(super) fn new(upload: Box<dyn MultipartUpload>, path: PathBuf) -> Self {
        Self { upload, path, gathered: BytesMut::new(), size: 0 }
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes to the end.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.size += bytes.len() as u64;
        self.gathered.extend_from_slice(&bytes);
        if self.gathered.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), StorageError> {
        let payload = PutPayload::from_bytes(std::mem::take(&mut self.gathered).freeze());
        Ok(self.upload.put_part(payload).await?)
    }

    /// Ends the file: durable when this returns.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn finish(mut self) -> Result<(), StorageError> {
        if !self.gathered.is_empty() {
            self.flush().await?;
        }
        self.upload.complete().await?;
        Ok(super::make_private(&self.path)?)
    }
}
