//! Files in a local directory, each synced to the disk.

use super::{Fetched, FileKey, MARK, Span, StorageError, path_of};
use crate::data_dir;
use crate::planted::{self, Bug};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::local::LocalFileSystem;
use object_store::{Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory that only this user may look into.
pub(super) struct Directory {
    store: LocalFileSystem,
    path: PathBuf,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        data_dir::make(path)?;
        let store = LocalFileSystem::new_with_prefix(path)?.with_fsync(!planted::has(Bug::NoSync));
        Ok(Self { store, path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn path_of(&self, key: &FileKey) -> PathBuf {
        self.path.join(key.as_str())
    }

    pub(super) async fn put(&self, key: &FileKey, bytes: Bytes) -> Result<(), StorageError> {
        self.store.put(&path_of(key), PutPayload::from(bytes)).await?;
        Ok(make_private(&self.path_of(key))?)
    }

    /// What takes the pieces of a file, and where the file will be.
    pub(super) async fn begin(
        &self,
        key: &FileKey,
    ) -> Result<(Box<dyn MultipartUpload>, PathBuf), StorageError> {
        Ok((self.store.put_multipart(&path_of(key)).await?, self.path_of(key)))
    }

    pub(super) async fn get(
        &self,
        key: &FileKey,
        span: Option<Span>,
    ) -> Result<Option<Fetched>, StorageError> {
        let path = path_of(key);
        let size = match self.store.head(&path).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            meta => meta?.size,
        };
        let Some(range) = span.map_or(Some(0..size), |span| span.of(size)) else {
            return Ok(Some(Fetched { part: None, size }));
        };
        if range.is_empty() {
            return Ok(Some(Fetched { part: Some((stream::empty().boxed(), range)), size }));
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let stream = self.store.get_opts(&path, options).await?.into_stream();
        let bytes = stream.map(|piece| piece.map_err(StorageError::from)).boxed();
        Ok(Some(Fetched { part: Some((bytes, range)), size }))
    }

    pub(super) async fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        match self.store.delete(&path_of(key)).await {
            Err(Error::NotFound { .. }) => {}
            other => other?,
        }
        self.delete_unfinished(key)
    }

    /// The store writes a file as NAME#1, or under the next number where there is one, and then gives it its name.
    fn delete_unfinished(&self, key: &FileKey) -> Result<(), StorageError> {
        for number in 1.. {
            let path = self.path.join(format!("{}#{number}", key.as_str()));
            match std::fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn list(&self) -> BoxStream<'static, Result<FileKey, StorageError>> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) => return stream::once(async { Err(error.into()) }).boxed(),
        };
        let keys = entries.flatten().filter_map(|entry| FileKey::parse(entry.file_name().to_str()?));
        stream::iter(keys.map(Ok)).boxed()
    }

    pub(super) fn read_mark(&self) -> Result<Option<Bytes>, StorageError> {
        match std::fs::read(self.path.join(MARK)) {
            Ok(mark) => Ok(Some(mark.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn write_mark(&self, mark: &[u8]) -> Result<(), StorageError> {
        Ok(data_dir::write(&self.path.join(MARK), 0o600, mark)?)
    }
}

/// The directory keeps other users out already; a copy of it need not.
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}
