//! The files of the server's certificate.

use super::{ConfigError, refuse};
use crate::args::TlsArgs;
use std::path::PathBuf;

/// The files of a certificate and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate, with those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Checks the flags; the files are read when the server starts.
pub(super) fn parse(args: TlsArgs) -> Result<Option<TlsConfig>, ConfigError> {
    match (args.tls_cert, args.tls_key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsConfig { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => refuse("--tls-cert: give --tls-key too".into()),
        (None, Some(_)) => refuse("--tls-key: give --tls-cert too".into()),
    }
}
