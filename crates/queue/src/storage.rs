//! Where finished files live: bytes in, key out. Knows keys, never URLs.

mod writer;

pub use writer::Writer;

use crate::data_dir;
use crate::fault::Fault;
use crate::printable::printable;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload};
use std::fs::Permissions;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Why storage could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The store refused or is gone.
    #[error("file storage: {}", printable(.0))]
    Store(#[from] object_store::Error),
    /// The directory cannot be made.
    #[error("file storage: {0}")]
    Directory(#[from] std::io::Error),
}

impl Fault for StorageError {
    /// Whatever a store refuses, it refuses for reasons of its own: no room, no rights, a disk that is gone.
    fn is_machines(&self) -> bool {
        true
    }
}

/// The name of a file: 32 hex digits and an extension. Cannot name anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKey(String);

impl FileKey {
    /// A fresh name nobody can guess. The extension is 1 to 8 small letters and digits.
    pub fn fresh(extension: &str) -> Self {
        Self(format!("{}.{extension}", Uuid::new_v4().simple()))
    }

    /// Reads a name that came from outside.
    pub fn parse(text: &str) -> Option<Self> {
        let (stem, extension) = text.split_once('.')?;
        let hex = stem.len() == 32 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let plain = extension.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        (hex && plain && (1..=8).contains(&extension.len())).then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// MIME type of a generated image, by extension; `None` for other files.
    pub fn image_type(&self) -> Option<&'static str> {
        match self.0.rsplit('.').next().unwrap_or_default() {
            "jpeg" | "jpg" => Some("image/jpeg"),
            "png" => Some("image/png"),
            _ => None,
        }
    }
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// From the first byte to the last, both included.
    Within(u64, u64),
    /// From a byte to the end.
    From(u64),
    /// So many bytes before the end.
    Last(u64),
}

impl Span {
    /// The bytes meant, in a file of `size` bytes; `None` when it has none of them.
    fn of(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Within(first, last) => first..last.saturating_add(1).min(size),
            Self::From(first) => first..size,
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

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
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    directory: PathBuf,
}

impl Storage {
    /// Opens a local directory, creating it for this user alone as needed. Every write is synced to the disk.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn local(directory: &Path) -> Result<Self, StorageError> {
        data_dir::make(directory)?;
        let store = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
        Ok(Self { store: Arc::new(store), directory: directory.to_owned() })
    }

    /// Stores bytes under a key: durable when this returns.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn put(&self, key: &FileKey, bytes: impl Into<Bytes>) -> Result<(), StorageError> {
        self.store.put(&path_of(key), PutPayload::from(bytes.into())).await?;
        Ok(make_private(&self.path(key))?)
    }

    /// Begins a file that comes in pieces. There is no such file until it is finished.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn create(&self, key: &FileKey) -> Result<Writer, StorageError> {
        let upload = self.store.put_multipart(&path_of(key)).await?;
        Ok(Writer::new(upload, self.path(key)))
    }

    /// Reads a file or a part of it; `None` when there is no such file.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn get(&self, key: &FileKey, span: Option<Span>) -> Result<Option<Fetched>, StorageError> {
        let path = path_of(key);
        let size = match self.store.head(&path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            meta => meta?.size,
        };
        let Some(range) = span.map_or(Some(0..size), |span| span.of(size)) else {
            return Ok(Some(Fetched { part: None, size }));
        };
        if range.is_empty() {
            return Ok(Some(Fetched { part: Some((futures_util::stream::empty().boxed(), range)), size }));
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let stream = self.store.get_opts(&path, options).await?.into_stream();
        let bytes = stream.map(|piece| piece.map_err(StorageError::from)).boxed();
        Ok(Some(Fetched { part: Some((bytes, range)), size }))
    }

    /// Deletes a file, and what a writer that died left of it; one that is gone already is no error.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn delete(&self, key: &FileKey) -> Result<(), StorageError> {
        match self.store.delete(&path_of(key)).await {
            Err(object_store::Error::NotFound { .. }) => {}
            other => other?,
        }
        self.delete_unfinished(key)
    }

    /// The store writes a file as NAME#1, or under the next number where there is one, and then gives it its name.
    fn delete_unfinished(&self, key: &FileKey) -> Result<(), StorageError> {
        for number in 1.. {
            let path = self.directory.join(format!("{}#{number}", key.as_str()));
            match std::fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a file lies.
    pub fn path(&self, key: &FileKey) -> PathBuf {
        self.directory.join(key.as_str())
    }

    /// The files that are here, whole ones only, in any order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<impl Iterator<Item = FileKey>, StorageError> {
        let entries = std::fs::read_dir(&self.directory)?;
        Ok(entries.flatten().filter_map(|entry| FileKey::parse(entry.file_name().to_str()?)))
    }
}

/// The directory keeps other users out already; a copy of it need not.
fn make_private(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

fn path_of(key: &FileKey) -> ObjectPath {
    ObjectPath::from(key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_parse() {
        let key = FileKey::fresh("png");
        assert_eq!(FileKey::parse(key.as_str()), Some(key));
        let stem = "0123456789abcdef0123456789abcdef";
        assert!(FileKey::parse(&format!("{stem}.txt")).is_some_and(|key| key.image_type().is_none()));
        for name in ["", ".png", "../etc/passwd", "..%2f.png", "a.png", stem] {
            assert_eq!(FileKey::parse(name), None, "{name}");
        }
        for end in [".", ".PNG", ".p/g", ".tar.gz", "#1", ".png#1", ".123456789"] {
            assert_eq!(FileKey::parse(&format!("{stem}{end}")), None, "{end}");
        }
    }

    #[tokio::test]
    async fn a_file_comes_back_whole_and_in_parts() -> Result<(), StorageError> {
        let directory = tempfile::tempdir()?;
        let storage = Storage::local(directory.path())?;
        let key = FileKey::fresh("jpeg");
        assert!(storage.get(&key, None).await?.is_none());
        storage.put(&key, b"0123456789".to_vec()).await?;
        let cases = [
            (None, Some((&b"0123456789"[..], 0..10))),
            (Some(Span::Within(2, 4)), Some((&b"234"[..], 2..5))),
            (Some(Span::Within(8, 99)), Some((&b"89"[..], 8..10))),
            (Some(Span::Last(3)), Some((&b"789"[..], 7..10))),
            (Some(Span::From(10)), None),
        ];
        for (span, expected) in cases {
            let file = storage.get(&key, span).await?.expect("stored");
            assert_eq!(file.size, 10);
            let part = match file.part {
                Some((bytes, range)) => {
                    Some((bytes.map(|piece| piece.expect("a piece").to_vec()).concat().await, range))
                }
                None => None,
            };
            let expected = expected.map(|(bytes, range)| (bytes.to_vec(), range));
            assert_eq!(part, expected, "{span:?}");
        }
        storage.delete(&key).await?;
        storage.delete(&key).await?;
        assert!(storage.get(&key, None).await?.is_none());
        Ok(())
    }
}
