//! The interception's folder in the data directory: the authority's key, and what programs are pointed at.

use super::InterceptError;
use super::authority::Authority;
use super::trust_store::trust_store;
use crate::data_dir;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
/// What Node programs load first.
pub(super) const PRELOAD: &str = "preload.cjs";
/// The folder from which Python programs load something first.
pub(super) const PYTHON: &str = "python";
/// What the server says about itself.
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

    /// Writes the certificates that programs are configured to trust.
    pub(super) fn write_trust(&self, authority: &Authority) -> Result<(), InterceptError> {
        let own = pem(authority.certificate());
        let known = rustls_native_certs::load_native_certs().certs;
        // This very bundle may be the system's to a server that was started from a shell of its programs.
        let is_ours =
            |der: &[u8]| der.windows(authority.public_key().len()).any(|part| part == authority.public_key());
        let foreign: Vec<_> = known.iter().filter(|der| !is_ours(der)).collect();
        if foreign.is_empty() {
            tracing::warn!(
                "--intercept: this system has no root certificates: programs can verify fal's hosts alone; install ca-certificates"
            );
        }
        let trusted: Vec<_> = foreign.into_iter().chain([authority.certificate()]).collect();
        let bundle: String = trusted.iter().map(|der| pem(der)).collect();
        self.write(CERTIFICATE, 0o644, own.as_bytes())?;
        self.write(BUNDLE, 0o644, bundle.as_bytes())?;
        self.write(TRUST_STORE, 0o644, &trust_store(&trusted))?;
        Self::made(self.0.join(INSIDE)).map(drop)
    }

    /// Writes what leads the connections of Node and Python programs to an address.
    pub(super) fn write_preloads(&self, address: SocketAddr) -> Result<(), InterceptError> {
        let server =
            serde_json::json!({ "domains": FAL_DOMAINS, "host": address.ip(), "port": address.port() });
        self.write(PRELOAD, 0o644, format!("const latentd = {server};\n{PRELOAD_CODE}").as_bytes())?;
        let python = Self::made(self.0.join(PYTHON))?;
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

/// What the last server said about itself; `None` when there never was one.
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

/// A certificate as text.
fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines = base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
}
