//! Checksums of the hub: SHA-256 of a large file, git's SHA-1 of a small one. Either is the name of a file in the cache.

use crate::error::HubError;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// What a file's content must be, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Checksum {
    Sha256(String),
    GitBlob(String),
}

impl Checksum {
    /// The checksum that is the name of a file in the cache.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        if !name.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()) {
            return None;
        }
        match name.len() {
            64 => Some(Self::Sha256(name.into())),
            40 => Some(Self::GitBlob(name.into())),
            _ => None,
        }
    }

    /// The name of a file with this content in the cache.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Sha256(name) | Self::GitBlob(name) => name,
        }
    }

    /// Whether a file's content has this checksum.
    pub(crate) fn matches(&self, path: &Path) -> Result<bool, HubError> {
        let mut hasher = Hasher::new(self, path.metadata().map_err(HubError::io(path))?.len());
        hasher.read(&File::open(path).map_err(HubError::io(path))?).map_err(HubError::io(path))?;
        Ok(hasher.equals(self))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(name) => write!(out, "SHA-256 {name}"),
            Self::GitBlob(name) => write!(out, "git's SHA-1 {name}"),
        }
    }
}

/// A checksum that is being computed.
pub(crate) struct Hasher(Context);

impl Hasher {
    /// For a file of `size` bytes.
    pub(crate) fn new(kind: &Checksum, size: u64) -> Self {
        match kind {
            Checksum::Sha256(_) => Self::sha256(),
            Checksum::GitBlob(_) => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {size}\0").as_bytes());
                Self(context)
            }
        }
    }

    pub(crate) fn sha256() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds the rest of a file.
    pub(crate) fn read(&mut self, mut file: &File) -> std::io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(()),
                count => self.update(&chunk[..count]),
            }
        }
    }

    pub(crate) fn equals(&self, expected: &Checksum) -> bool {
        self.name() == expected.name()
    }

    /// The checksum's digits.
    pub(crate) fn name(&self) -> String {
        hex::encode(self.0.clone().finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `sha256sum` and `git hash-object`.
    #[test]
    fn checksums_are_those_of_git_and_sha256sum() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("hello");
        std::fs::write(&path, "hello\n").expect("a file");
        for (name, matches) in [
            ("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", true),
            ("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be04", false),
            ("ce013625030ba8dba906f756967f9e9ca394464a", true),
            ("ce013625030ba8dba906f756967f9e9ca394464b", false),
        ] {
            let checksum = Checksum::from_name(name).expect("a checksum");
            assert_eq!(checksum.matches(&path).expect("a file"), matches, "{checksum}");
        }
        assert_eq!(Checksum::from_name("ce013625"), None);
        assert_eq!(Checksum::from_name(&"X".repeat(40)), None);
    }
}
