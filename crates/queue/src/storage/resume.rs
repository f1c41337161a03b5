//! A read from a bucket that goes on where it broke off.

use super::s3::Bucket;
use super::{ByteStream, StorageError};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, GetRange};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Attempts in a row that bring no byte, before a read fails.
const ATTEMPTS: u32 = 6;

/// Pause before the first of them; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of an object that are still to be read.
pub(super) struct Rest {
    pub(super) bucket: Arc<Bucket>,
    pub(super) path: Path,
    /// What the object was when the read began: another object is not read on.
    pub(super) etag: Option<String>,
    pub(super) range: Range<u64>,
    pub(super) stream: BoxStream<'static, object_store::Result<Bytes>>,
}

/// Reads all of it, however often the connection breaks, as long as something comes each time.
pub(super) fn read(rest: Rest) -> ByteStream {
    futures_util::stream::try_unfold((rest, 0), |(mut rest, mut failures)| async move {
        while !rest.range.is_empty() {
            let error = match rest.stream.next().await {
                Some(Ok(bytes)) => {
                    rest.range.start += bytes.len() as u64;
                    return Ok(Some((bytes, (rest, 0))));
                }
                Some(Err(error)) => Some(error),
                None => None,
            };
            failures += 1;
            if failures > ATTEMPTS || rest.etag.is_none() {
                return Err(rest.failed(error));
            }
            tracing::info!(path = %rest.path, at = rest.range.start, "a read broke off and is resumed");
            tokio::time::sleep(PAUSE * 2u32.pow(failures - 1)).await;
            rest.stream = reopen(&rest.bucket, &rest.path, rest.range.clone(), &rest.etag).await?;
        }
        Ok(None)
    })
    .boxed()
}

/// The bytes from where a read broke off. What can be tried again becomes a stream that fails.
async fn reopen(
    bucket: &Bucket,
    path: &Path,
    range: Range<u64>,
    etag: &Option<String>,
) -> Result<BoxStream<'static, object_store::Result<Bytes>>, StorageError> {
    let range = Some(GetRange::Bounded(range));
    let options = GetOptions { range, if_match: etag.clone(), ..GetOptions::default() };
    match bucket.store().get_opts(path, options).await {
        Ok(result) if result.meta.e_tag == *etag => Ok(result.into_stream()),
        Ok(_) => Err(bucket.failed_with("an object changed while it was read")),
        Err(error @ object_store::Error::Generic { .. }) => {
            Ok(futures_util::stream::once(async { Err(error) }).boxed())
        }
        Err(error) => Err(bucket.failed(&error)),
    }
}

impl Rest {
    fn failed(&self, error: Option<object_store::Error>) -> StorageError {
        match error {
            Some(error) => self.bucket.failed(&error),
            None => self.bucket.failed_with("a read broke off"),
        }
    }
}
