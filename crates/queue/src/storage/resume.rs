//! Reading from a bucket: a file or a part of it, and on from where a read broke off.

use super::s3::Bucket;
use super::{ByteStream, Fetched, FileKey, Span, StorageError, path_of};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStoreExt};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Attempts in a row that bring no byte, before a read fails.
const ATTEMPTS: u32 = 6;

/// Pause before the first of them; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of an object that are still to be read.
struct Rest {
    bucket: Arc<Bucket>,
    path: Path,
    /// What the object was when the read began: another object is not read on.
    etag: Option<String>,
    range: Range<u64>,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
}

/// Begins to read a file or a part of it; `None` when there is no such file.
pub(super) async fn get(
    bucket: &Arc<Bucket>,
    key: &FileKey,
    span: Option<Span>,
) -> Result<Option<Fetched>, StorageError> {
    let path = path_of(key);
    let mut options = GetOptions::default();
    if let Some(span) = span {
        let size = match bucket.store().head(&path).await {
            Ok(meta) => {
                options.if_match = meta.e_tag;
                meta.size
            }
            // An answer without a body does not show whether it is the bucket that is missing.
            Err(Error::NotFound { .. }) => return get_with(bucket, path, GetOptions::default()).await,
            Err(error) => return Err(bucket.failed(&error)),
        };
        let Some(range) = span.of(size) else { return Ok(Some(Fetched { part: None, size })) };
        options.range = Some(GetRange::Bounded(range));
    }
    get_with(bucket, path, options).await
}

async fn get_with(
    bucket: &Arc<Bucket>,
    path: Path,
    options: GetOptions,
) -> Result<Option<Fetched>, StorageError> {
    let result = match bucket.store().get_opts(&path, options).await {
        Err(error @ Error::NotFound { .. }) => return bucket.missing(&error).map(|()| None),
        result => result.map_err(|error| bucket.failed(&error))?,
    };
    let (size, range, etag) = (result.meta.size, result.range.clone(), result.meta.e_tag.clone());
    let stream = result.into_stream();
    let rest = Rest { bucket: bucket.clone(), path, etag, range: range.clone(), stream };
    Ok(Some(Fetched { part: Some((read(rest), range)), size }))
}

/// Reads all of it, however often the connection breaks, as long as something comes each time.
fn read(rest: Rest) -> ByteStream {
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
        Ok(_) => Err(bucket.failed_with("an object changed while it was read", false)),
        Err(error @ Error::Generic { .. }) => Ok(futures_util::stream::once(async { Err(error) }).boxed()),
        Err(error) => Err(bucket.failed(&error)),
    }
}

impl Rest {
    fn failed(&self, error: Option<Error>) -> StorageError {
        match error {
            Some(error) => self.bucket.failed(&error),
            None => self.bucket.failed_with("a read broke off", true),
        }
    }
}
