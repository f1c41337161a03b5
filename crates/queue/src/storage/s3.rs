//! Files as objects of a bucket of S3, or of a service that speaks its protocol.

use super::client::Connector;
use super::error::{code, explain, is_away};
use super::location::S3Location;
use super::{FileKey, MARK, StorageError, path_of};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Parts of uploads that are in memory at a time, while they are sent. Others wait on the disk.
const SENDING: usize = 8;

/// Object that a check writes and deletes; no file has such a name.
const PROBE: &str = "probe";

/// Attempts to write the mark where there is none.
const MARK_ATTEMPTS: u32 = 3;

/// A bucket, and how its objects are read and written.
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// The URL, for messages.
    name: String,
    endpoint: String,
    has_credentials: bool,
    /// Directory of what is to be sent.
    pub(super) spool: PathBuf,
    pub(super) sending: Semaphore,
}

impl Bucket {
    /// Makes a client; nothing is connected yet.
    pub(super) fn open(location: &S3Location) -> Result<Self, StorageError> {
        let name = location.name();
        let mut builder = AmazonS3Builder::new()
            .with_http_connector(Connector { stall: location.stall })
            .with_bucket_name(&location.bucket)
            // One DELETE per object: not every service has the call that deletes many.
            .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true")
            .with_config(AmazonS3ConfigKey::Checksum, "sha256")
            .with_retry(RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(100),
                    max_backoff: Duration::from_secs(2),
                    base: 2.0,
                },
                max_retries: 6,
                retry_timeout: location.retry,
            });
        for (key, value) in &location.settings {
            builder = builder.with_config(*key, value);
        }
        if let (Some(endpoint), true) =
            (location.endpoint(), location.is_on(AmazonS3ConfigKey::VirtualHostedStyleRequest))
        {
            // object_store takes such an endpoint to contain the bucket already.
            let with_bucket = endpoint.replacen("://", &format!("://{}.", location.bucket), 1);
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, with_bucket);
        }
        let built = builder.build().map_err(|error| StorageError::Bucket {
            place: name.clone(),
            why: error.to_string(),
            is_away: false,
        })?;
        let prefix = Path::parse(&location.prefix).map_err(object_store::Error::from)?;
        Ok(Self {
            store: Arc::new(PrefixStore::new(built, prefix)),
            name,
            endpoint: location.endpoint().unwrap_or("Amazon S3").to_owned(),
            has_credentials: location.has_credentials(),
            spool: location.spool.clone(),
            sending: Semaphore::new(SENDING),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    pub(super) fn failed(&self, error: &Error) -> StorageError {
        self.failed_with(&explain(error, &self.endpoint, self.has_credentials), is_away(error))
    }

    pub(super) fn failed_with(&self, why: &str, is_away: bool) -> StorageError {
        StorageError::Bucket { place: self.name.clone(), why: why.to_owned(), is_away }
    }

    pub(super) async fn put(&self, path: &Path, bytes: Bytes) -> Result<(), StorageError> {
        let put = self.store.put(path, PutPayload::from_bytes(bytes)).await;
        put.map(|_| ()).map_err(|error| self.failed(&error))
    }

    /// Is there an object of this size?
    pub(super) async fn has(&self, path: &Path, size: u64) -> bool {
        self.store.head(path).await.is_ok_and(|meta| meta.size == size)
    }

    /// Passes if it is the object that was not found, and not the bucket.
    pub(super) fn missing(&self, error: &Error) -> Result<(), StorageError> {
        match code(error).as_deref() {
            Some("NoSuchBucket") => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    pub(super) async fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        match self.store.delete(&path_of(key)).await {
            Err(error @ Error::NotFound { .. }) => self.missing(&error),
            deleted => deleted.map_err(|error| self.failed(&error)),
        }
    }

    pub(super) fn list(self: &Arc<Self>) -> BoxStream<'static, Result<FileKey, StorageError>> {
        let bucket = self.clone();
        let keys = self.store.list(None).filter_map(move |meta| {
            let key = match meta {
                Ok(meta) => FileKey::parse(meta.location.as_ref()).map(Ok),
                Err(error) => Some(Err(bucket.failed(&error))),
            };
            std::future::ready(key)
        });
        keys.boxed()
    }

    pub(super) async fn check(&self) -> Result<(), StorageError> {
        let refused = |call: &str, error: &Error| {
            let why = explain(error, &self.endpoint, self.has_credentials);
            self.failed_with(&format!("cannot {call}: {why}"), is_away(error))
        };
        self.store.list(None).next().await.transpose().map_err(|error| refused("list", &error))?;
        self.read_mark().await?;
        let probe = Path::from(PROBE);
        let written = self.store.put(&probe, PutPayload::from_static(b"latentd")).await;
        written.map_err(|error| refused("write", &error))?;
        match self.store.delete(&probe).await {
            // Another server's check was first.
            Err(Error::NotFound { .. }) => Ok(()),
            deleted => deleted.map_err(|error| refused("delete", &error)),
        }
    }

    pub(super) async fn read_mark(&self) -> Result<Option<Bytes>, StorageError> {
        match self.store.get(&Path::from(MARK)).await {
            Err(error @ Error::NotFound { .. }) => self.missing(&error).map(|()| None),
            Err(error) => Err(self.failed(&error)),
            Ok(result) => result.bytes().await.map(Some).map_err(|error| self.failed(&error)),
        }
    }

    pub(super) async fn write_mark(&self, mark: Bytes) -> Result<(), StorageError> {
        self.put(&Path::from(MARK), mark).await
    }

    /// Writes the mark where there is none; `false`: there is one, perhaps this one, whose answer was lost. A service that
    /// cannot do both at once writes.
    pub(super) async fn create_mark(&self, mark: Bytes) -> Result<bool, StorageError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let payload = PutPayload::from_bytes(mark.clone());
            let put = self.store.put_opts(&Path::from(MARK), payload, PutMode::Create.into()).await;
            let Err(error) = put else { return Ok(true) };
            let is_there = matches!(error, Error::AlreadyExists { .. } | Error::Precondition { .. });
            match code(&error).as_deref() {
                _ if is_there && self.read_mark().await?.is_some() => return Ok(false),
                Some("NotImplemented") => return self.write_mark(mark).await.map(|()| true),
                // Two writes at once can both be refused, and object_store does not repeat a call of unknown outcome.
                code if attempts < MARK_ATTEMPTS && (is_there || code.is_none()) => {
                    tracing::info!(%error, "the mark of the files is written again");
                }
                _ => return Err(self.failed(&error)),
            }
        }
    }
}
