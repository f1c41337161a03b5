//! The certificates that programs are configured to trust: the authority's own, and bundles of it with the system's.

use super::InterceptError;
use super::authority::Authority;
use super::folder::{BUNDLE, CERTIFICATE, Folder, INSIDE, TRUST_STORE};
use super::trust_store::trust_store;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Writes the certificate of the authority, and bundles of it with the system's.
pub(super) fn write_certificates(folder: &Folder, authority: &Authority) -> Result<(), InterceptError> {
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
    folder.write(CERTIFICATE, 0o644, own.as_bytes())?;
    folder.write(BUNDLE, 0o644, bundle.as_bytes())?;
    folder.write(TRUST_STORE, 0o644, &trust_store(&trusted))?;
    folder.subfolder(INSIDE).map(drop)
}

/// A certificate as text.
fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines = base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", lines.collect::<String>())
}
