//! Where finished files live: bytes in, key out. Knows keys, never URLs. A local directory, or a bucket of S3.

mod client;
mod credentials;
mod directory;
mod error;
mod key;
mod location;
mod parts;
mod resume;
mod s3;
mod writer;

pub use error::StorageError;
pub use key::{FileKey, Span};
pub use location::{Location, S3Location, SCHEME};
pub use writer::Writer;

use crate::planted::{self, Bug};
use bytes::Bytes;
use directory::Directory;
use futures_util::stream::BoxStream;
use object_store::path::Path as ObjectPath;
use s3::Bucket;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Name of the file that says which database the files belong to.
pub const MARK: &str = "identity.json";

/// The bytes of a file, as they are read.
pub type ByteStream = BoxStream<'static, Result<Bytes, StorageError>>;

/// A stored file, or a part of it.
pub struct Fetched {
    /// The bytes and where they lie; `None` when the file has no such part.
    pub part: Option<(ByteStream, Range<u64>)>,
    /// Size of the whole file.
    pub size: u64,
}

/// A handle on the store; clones share it.
#[derive(Clone)]
pub struct Storage(Store);

#[derive(Clone)]
enum Store {
    Directory(Arc<Directory>),
    Bucket(Arc<Bucket>),
}

impl Storage {
    /// Opens a directory or a bucket. A bucket is not asked yet.
    ///
    /// # Errors
    /// When the directory cannot be used, or no client for the bucket can be made.
    pub fn open(location: &Location) -> Result<Self, StorageError> {
        match location {
            Location::Directory(path) => Self::local(path),
            Location::S3(bucket) => Ok(Self(Store::Bucket(Arc::new(Bucket::open(bucket)?)))),
        }
    }

    /// Opens a local directory, creating it for this user alone as needed. Every write is synced to the disk.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn local(directory: &Path) -> Result<Self, StorageError> {
        Ok(Self(Store::Directory(Arc::new(Directory::open(directory)?))))
    }

    /// Stores bytes under a key: durable when this returns.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn put(&self, key: &FileKey, bytes: impl Into<Bytes>) -> Result<(), StorageError> {
        let (store, key, bytes) = (self.0.clone(), key.clone(), bytes.into());
        let put = async move {
            match store {
                Store::Directory(directory) => directory.put(&key, bytes).await,
                Store::Bucket(bucket) => bucket.put(&path_of(&key), bytes).await,
            }
        };
        if planted::has(Bug::FileNotAwaited) {
            planted::later(put);
            return Ok(());
        }
        put.await
    }

    /// Begins a file that comes in pieces. There is no such file until it is finished.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn create(&self, key: &FileKey) -> Result<Writer, StorageError> {
        match &self.0 {
            Store::Directory(directory) => {
                let (upload, path) = directory.begin(key).await?;
                Ok(Writer::in_pieces(upload, path))
            }
            Store::Bucket(bucket) => Ok(Writer::in_parts(bucket.clone(), path_of(key))),
        }
    }

    /// Reads a file or a part of it; `None` when there is no such file.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn get(&self, key: &FileKey, span: Option<Span>) -> Result<Option<Fetched>, StorageError> {
        match &self.0 {
            Store::Directory(directory) => directory.get(key, span).await,
            Store::Bucket(bucket) => resume::get(bucket, key, span).await,
        }
    }

    /// Deletes a file, and what a writer that died left of it in a directory; one that is gone already is no error.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        match &self.0 {
            Store::Directory(directory) => directory.delete(key).await,
            Store::Bucket(bucket) => bucket.delete(key).await,
        }
    }

    /// The files that are here, whole ones only, in any order, as they are found.
    pub fn list(&self) -> BoxStream<'static, Result<FileKey, StorageError>> {
        match &self.0 {
            Store::Directory(directory) => directory.list(),
            Store::Bucket(bucket) => bucket.list(),
        }
    }

    /// Does the store answer? Whether a directory has free space is asked of its disk.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn probe(&self) -> Result<(), StorageError> {
        match &self.0 {
            Store::Directory(_) => Ok(()),
            Store::Bucket(bucket) => bucket.read_mark().await.map(|_| ()),
        }
    }

    /// Finds out whether a bucket lets its key do what the server does, by doing it: list, read, write and delete. What a
    /// directory permits shows when it is opened.
    ///
    /// # Errors
    /// What it does not, and what to change.
    pub async fn check(&self) -> Result<(), StorageError> {
        match &self.0 {
            Store::Directory(_) => Ok(()),
            Store::Bucket(bucket) => bucket.check().await,
        }
    }

    /// What the mark of the files says, if there is one.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn read_mark(&self) -> Result<Option<Bytes>, StorageError> {
        match &self.0 {
            Store::Directory(directory) => directory.read_mark(),
            Store::Bucket(bucket) => bucket.read_mark().await,
        }
    }

    /// Writes the mark.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn write_mark(&self, mark: Vec<u8>) -> Result<(), StorageError> {
        match &self.0 {
            Store::Directory(directory) => directory.write_mark(&mark),
            Store::Bucket(bucket) => bucket.write_mark(mark.into()).await,
        }
    }

    /// Writes the mark where there is none; `false`: another process was first.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn create_mark(&self, mark: Vec<u8>) -> Result<bool, StorageError> {
        match &self.0 {
            // A directory has one server, which holds a lock.
            Store::Directory(directory) => directory.write_mark(&mark).map(|()| true),
            Store::Bucket(bucket) => bucket.create_mark(mark.into()).await,
        }
    }

    /// What files wait for while they cannot be stored, for messages.
    pub fn medium(&self) -> &'static str {
        match &self.0 {
            Store::Directory(_) => "disk",
            Store::Bucket(_) => "bucket",
        }
    }

    /// The directory or the bucket, for messages.
    pub fn place(&self) -> String {
        match &self.0 {
            Store::Directory(directory) => directory.path().display().to_string(),
            Store::Bucket(bucket) => bucket.name().to_owned(),
        }
    }
}

fn path_of(key: &FileKey) -> ObjectPath {
    ObjectPath::from(key.as_str())
}
