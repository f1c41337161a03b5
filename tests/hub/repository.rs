//! What the stand-in has: repositories of files, with the names that git and LFS have for their contents.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;

/// A file of a repository.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) bytes: Bytes,
    /// Kept by LFS, and so by the second host.
    pub(crate) is_large: bool,
    /// What the lists say of its size, where they lie.
    pub(crate) claimed: Option<u64>,
}

impl File {
    pub(crate) fn new(path: &str, bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), is_large: path.ends_with(".safetensors"), claimed: None }
    }

    pub(super) fn size(&self) -> u64 {
        self.claimed.unwrap_or(self.bytes.len() as u64)
    }

    pub(super) fn sha256(&self) -> String {
        hex::encode(ring::digest::digest(&ring::digest::SHA256, &self.bytes))
    }

    /// git's name of what the repository itself holds: the file, or the pointer to it.
    pub(super) fn blob_id(&self) -> String {
        let pointer = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
            self.sha256(),
            self.bytes.len()
        );
        let held = if self.is_large { pointer.as_bytes() } else { &self.bytes };
        let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(format!("blob {}\0", held.len()).as_bytes());
        context.update(held);
        hex::encode(context.finish())
    }

    /// What the cache calls it.
    pub(crate) fn etag(&self) -> String {
        if self.is_large { self.sha256() } else { self.blob_id() }
    }
}

/// A repository.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repository {
    pub(crate) files: BTreeMap<String, File>,
    /// Behind a licence.
    pub(crate) is_gated: bool,
}

impl Repository {
    /// The files of a directory.
    pub(crate) fn of(directory: &Path) -> Self {
        let mut repository = Self::default();
        repository.add(directory, "");
        repository
    }

    fn add(&mut self, directory: &Path, prefix: &str) {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let entry = entry.expect("an entry");
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                self.add(&entry.path(), &format!("{path}/"));
            } else {
                let bytes = std::fs::read(entry.path()).expect("a file");
                self.files.insert(path.clone(), File::new(&path, bytes));
            }
        }
    }
}
