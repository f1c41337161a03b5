//! The server's Ed25519 key: made on the first start, kept in the data directory, signs webhooks; other secrets are
//! derived from it.

use crate::data_dir;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// Name of the key's file in the data directory.
const FILE: &str = "webhook-key.pk8";

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
#[error("webhook signing key {0}: {1}")]
pub struct SigningError(String, Error);

/// A private key; only signatures and the public half leave it.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key's file in a data directory.
    pub fn path(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// Reads the directory's key, or makes one that only its owner may read.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds no key.
    pub fn open(directory: &Path) -> Result<Self, SigningError> {
        let path = Self::path(directory);
        let key = match std::fs::read(&path) {
            Ok(document) => read(&document),
            Err(error) if error.kind() == ErrorKind::NotFound => make(&path),
            Err(error) => Err(error),
        };
        key.map(Self).map_err(|error| SigningError(path.display().to_string(), error))
    }

    /// Reads the key of a file that must be there.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no key.
    pub fn read(path: &Path) -> Result<Self, SigningError> {
        let key = std::fs::read(path).and_then(|document| read(&document));
        key.map(Self).map_err(|error| SigningError(path.display().to_string(), error))
    }

    /// The signature of a message, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }

    /// A secret for another purpose, the same for as long as the key is. Ed25519 signs a message in one way only,
    /// and no webhook's message begins like this one.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        Sha256::digest(self.sign(format!("latentd secret\0{purpose}").as_bytes())).into()
    }

    /// The public half, 32 bytes.
    pub fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }
}

/// A document may leave the public half out, as `openssl genpkey` does.
fn read(document: &[u8]) -> Result<Ed25519KeyPair, Error> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
        .map_err(|why| Error::other(format!("{why}: restore the file, or remove it to have a new key made")))
}

/// Durable before it is used: a receiver may keep the public half for a day.
fn make(path: &Path) -> Result<Ed25519KeyPair, Error> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| Error::other("the system gave no random numbers"))?;
    data_dir::write(path, 0o600, document.as_ref())?;
    read(document.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, UnparsedPublicKey};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_for_its_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = SigningKey::open(directory.path()).expect("a new key");
        let again = SigningKey::open(directory.path()).expect("the same key");
        assert_eq!(first.public(), again.public());
        let mode = std::fs::metadata(directory.path().join(FILE)).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let verifier = UnparsedPublicKey::new(&ED25519, first.public());
        verifier.verify(b"text", &again.sign(b"text")).expect("a good signature");
        assert!(verifier.verify(b"other", &again.sign(b"text")).is_err());
    }

    /// The key of RFC 8410, as `openssl genpkey -algorithm ed25519 -outform DER` writes one: without its public half.
    #[test]
    fn a_named_key_is_read_and_never_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        assert!(SigningKey::read(&path).is_err_and(|error| error.to_string().contains("key")));
        assert!(!path.exists());
        let seed = "d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842";
        let document = hex::decode(format!("302e020100300506032b657004220420{seed}")).expect("hex");
        std::fs::write(&path, document).expect("written");
        let public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        assert_eq!(hex::encode(SigningKey::read(&path).expect("a key").public()), public);
    }

    #[test]
    fn a_broken_key_is_reported_and_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(FILE), b"not a key").expect("written");
        let error = SigningKey::open(directory.path()).err().expect("refused").to_string();
        assert!(error.contains(FILE) && error.contains("remove it"), "{error}");
        assert_eq!(std::fs::read(directory.path().join(FILE)).expect("still there"), b"not a key");
    }
}
