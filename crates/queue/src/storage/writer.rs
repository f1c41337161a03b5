//! A file that comes in pieces: written as they come, there when it is whole.

use super::StorageError;
use super::directory::make_private;
use super::parts::Parts;
use super::s3::Bucket;
use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload};
use std::path::PathBuf;
use std::sync::Arc;

/// What is gathered before it is written, so that memory does not grow with the file: little, for there may be many.
const CHUNK: usize = 64 * 1024;

/// Writes one file. Dropped before the end, it leaves nothing behind.
pub struct Writer {
    sink: Sink,
    gathered: BytesMut,
    size: u64,
}

/// Where the chunks go.
enum Sink {
    /// To a file of a directory, which the store removes when this is dropped.
    Directory(Box<dyn MultipartUpload>, PathBuf),
    /// To an object, in the large parts that S3 wants.
    Bucket(Box<Parts>),
}

impl Writer {
    pub(super) fn in_pieces(upload: Box<dyn MultipartUpload>, path: PathBuf) -> Self {
        Self::to(Sink::Directory(upload, path))
    }

    pub(super) fn in_parts(bucket: Arc<Bucket>, path: Path) -> Self {
        Self::to(Sink::Bucket(Box::new(Parts::new(bucket, path))))
    }

    fn to(sink: Sink) -> Self {
        Self { sink, gathered: BytesMut::new(), size: 0 }
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
        let chunk = std::mem::take(&mut self.gathered).freeze();
        match &mut self.sink {
            Sink::Directory(upload, _) => Ok(upload.put_part(PutPayload::from_bytes(chunk)).await?),
            Sink::Bucket(parts) => parts.add(chunk).await,
        }
    }

    /// Ends the file: durable when this returns.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn finish(self) -> Result<(), StorageError> {
        let end = self.gathered.freeze();
        match self.sink {
            Sink::Bucket(parts) => parts.finish(end).await,
            Sink::Directory(mut upload, path) => {
                if !end.is_empty() {
                    upload.put_part(PutPayload::from_bytes(end)).await?;
                }
                upload.complete().await?;
                Ok(make_private(&path)?)
            }
        }
    }
}
