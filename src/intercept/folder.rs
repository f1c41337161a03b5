//! The interception's folder in the data directory: the authority's key, and files that programs are configured with.

use super::InterceptError;
use crate::data_dir;
use latentd_fal::FAL_DOMAINS;
use serde::{Deserialize, Serialize};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The authority's private key.
pub(super) const KEY: &str = "ca-key.pk8";
/// The authority's certificate.
pub(super) const CERTIFICATE: &str = "ca.pem";
/// That certificate and those of the system: for programs that trust one file and nothing else.
pub(super) const BUNDLE: &str = "bundle.pem";
/// The bundle as Java reads it.
pub(super) const TRUST_STORE: &str = "truststore.jks";
/// Where `latentd run` puts the files that its programs see in place of the system's; empty outside of them.
pub(super) const INSIDE: &str = "inside";
/// Script that Node programs load first.
pub(super) const PRELOAD: &str = "preload.cjs";
/// The folder from which Python programs load something first.
pub(super) const PYTHON: &str = "python";
/// The file with the server's address.
const RUNNING: &str = "running.json";

const PRELOAD_CODE: &str = include_str!("preload.cjs");
const SITECUSTOMIZE_CODE: &str = include_str!("sitecustomize.py");

/// A folder that exists.
pub(super) struct Folder(PathBuf);

/// A server that runs, or ran last.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// It was given keys that clients must send.
    pub(crate) needs_key: bool,
}

impl Folder {
    /// The folder of a data directory, made so that only its owner may look into it.
    pub(super) fn make(data_dir: &Path) -> Result<Self, InterceptError> {
        Self::made(path(data_dir))
    }

    fn made(path: PathBuf) -> Result<Self, InterceptError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| InterceptError::File(path.display().to_string(), error))?;
        // Programs load code from here.
        check_mode(&path, 0o022, "700")?;
        Ok(Self(path))
    }

    /// A folder in this one, made in the same way.
    pub(super) fn subfolder(&self, name: &str) -> Result<Self, InterceptError> {
        Self::made(self.0.join(name))
    }

    /// Reads a file that nobody else may read; `None` when there is none.
    pub(super) fn read_private(&self, name: &str) -> Result<Option<Vec<u8>>, InterceptError> {
        let path = self.0.join(name);
        let content = match std::fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(InterceptError::File(path.display().to_string(), error)),
        };
        check_mode(&path, 0o077, "600")?;
        Ok(Some(content))
    }

    pub(super) fn write(&self, name: &str, mode: u32, content: &[u8]) -> Result<(), InterceptError> {
        let path = self.0.join(name);
        data_dir::write(&path, mode, content)
            .map_err(|error| InterceptError::File(path.display().to_string(), error))
    }

    /// Writes the scripts that redirect the connections of Node and Python programs to an address.
    pub(super) fn write_preloads(&self, address: SocketAddr) -> Result<(), InterceptError> {
        let server =
            serde_json::json!({ "domains": FAL_DOMAINS, "host": address.ip(), "port": address.port() });
        self.write(PRELOAD, 0o644, format!("const latentd = {server};\n{PRELOAD_CODE}").as_bytes())?;
        let python = self.subfolder(PYTHON)?;
        python.write(
            "sitecustomize.py",
            0o644,
            format!("latentd = {server}\n{SITECUSTOMIZE_CODE}").as_bytes(),
        )
    }

    pub(super) fn write_running(&self, running: &Running) -> Result<(), InterceptError> {
        self.write(RUNNING, 0o644, serde_json::json!(running).to_string().as_bytes())
    }
}

/// Where a data directory has the folder.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("intercept")
}

/// The address of the server that ran last; `None` when there never was one.
pub(crate) fn running(data_dir: &Path) -> std::io::Result<Option<Running>> {
    match std::fs::read(path(data_dir).join(RUNNING)) {
        Ok(content) => Ok(Some(serde_json::from_slice(&content)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn check_mode(path: &Path, forbidden: u32, right: &'static str) -> Result<(), InterceptError> {
    let name = path.display().to_string();
    match std::fs::metadata(path) {
        Ok(known) if known.permissions().mode() & forbidden != 0 => Err(InterceptError::Open(name, right)),
        Ok(_) => Ok(()),
        Err(error) => Err(InterceptError::File(name, error)),
    }
}
