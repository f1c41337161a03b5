//! An upload to a bucket in parts of equal size. A part is gathered in a file without a name, for senders are slow and
//! many; it is in memory only while the service takes it.

use super::StorageError;
use super::s3::Bucket;
use crate::data_dir;
use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStoreExt, PutPayload};
use std::io::SeekFrom;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

/// Bytes of each part but the last: S3 takes no less than 5 MiB, and 10,000 of them.
pub(super) const PART: usize = 8 * 1024 * 1024;

/// One upload. Dropped before its end, it is aborted.
pub(super) struct Parts {
    bucket: Arc<Bucket>,
    path: Path,
    spool: Option<File>,
    /// Bytes of the next part so far.
    spooled: usize,
    /// Begun with the first part: what is smaller goes in one piece.
    upload: Option<Box<dyn MultipartUpload>>,
    /// Bytes of the parts that are sent.
    sent: u64,
}

impl Parts {
    pub(super) fn new(bucket: Arc<Bucket>, path: Path) -> Self {
        Self { bucket, path, spool: None, spooled: 0, upload: None, sent: 0 }
    }

    /// Adds bytes to the end; returns when what makes a part is sent.
    pub(super) async fn add(&mut self, mut chunk: Bytes) -> Result<(), StorageError> {
        while !chunk.is_empty() {
            let taken = chunk.split_to(chunk.len().min(PART - self.spooled));
            self.spool(&taken).await?;
            if self.spooled == PART {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn spool(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let file = match &mut self.spool {
            Some(file) => file,
            None => {
                let directory = self.bucket.spool.clone();
                let make = move || {
                    data_dir::make(&directory)?;
                    tempfile::tempfile_in(directory)
                };
                let file = tokio::task::spawn_blocking(make);
                let file = file.await.map_err(std::io::Error::other)??;
                self.spool.insert(File::from_std(file))
            }
        };
        file.write_all(bytes).await?;
        self.spooled += bytes.len();
        Ok(())
    }

    /// What was gathered, with `end` behind it.
    async fn take(&mut self, end: &[u8]) -> Result<Bytes, StorageError> {
        let mut bytes = BytesMut::with_capacity(self.spooled + end.len());
        if let Some(file) = &mut self.spool {
            file.flush().await?;
            file.seek(SeekFrom::Start(0)).await?;
            let mut gathered = file.take(self.spooled as u64);
            while gathered.read_buf(&mut bytes).await? > 0 {}
            file.seek(SeekFrom::Start(0)).await?;
        }
        self.spooled = 0;
        bytes.extend_from_slice(end);
        Ok(bytes.freeze())
    }

    async fn send(&mut self) -> Result<(), StorageError> {
        let bucket = self.bucket.clone();
        let _permit = bucket.sending.acquire().await;
        let part = PutPayload::from_bytes(self.take(&[]).await?);
        self.sent += part.content_length() as u64;
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => {
                let begun = bucket.store().put_multipart(&self.path).await;
                self.upload.insert(begun.map_err(|error| bucket.failed(&error))?)
            }
        };
        upload.put_part(part).await.map_err(|error| bucket.failed(&error))
    }

    /// Sends the rest: the object is there when this returns.
    pub(super) async fn finish(mut self, end: Bytes) -> Result<(), StorageError> {
        let bucket = self.bucket.clone();
        if self.spooled + end.len() > PART || self.upload.is_some() {
            self.add(end).await?;
            if self.spooled > 0 {
                self.send().await?;
            }
        } else {
            let _permit = bucket.sending.acquire().await;
            let whole = self.take(&end).await?;
            return bucket.put(&self.path, whole).await;
        }
        if let Some(upload) = &mut self.upload {
            match upload.complete().await {
                // The call was repeated because its answer was lost, and the service no longer knows the upload.
                Err(error)
                    if !matches!(error, Error::Generic { .. }) && bucket.has(&self.path, self.sent).await => {
                }
                completed => completed.map(drop).map_err(|error| bucket.failed(&error))?,
            }
        }
        self.upload = None;
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let path = self.path.clone();
        // Without a runtime the process is ending; the bucket's own rule for unfinished uploads is left then.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%path, %error, "an unfinished upload stays in the bucket");
                }
            });
        }
    }
}
