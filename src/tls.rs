//! TLS of connections that clients open: the settings of both ports, handshakes, and certificates in files, which are read
//! again while the server runs.

use crate::config::{ConfigError, TlsConfig};
use latentd_fal::ClientStream;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::server::TlsStream;

/// A connection has this long for its first byte, and for its handshake.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// The first byte of TLS: a handshake record. No HTTP request begins so.
pub(crate) const FIRST_BYTE: u8 = 0x16;

/// The response to a client that sends plain HTTP.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 35\r\n\
    connection: close\r\n\r\nThis port takes TLS: use https://.\n";

/// TLS with these certificates, for HTTP/2 and HTTP/1.1.
///
/// # Errors
/// When the provider has no protocol version.
pub(crate) fn acceptor(
    certificates: Arc<dyn ResolvesServerCert>,
) -> Result<TlsAcceptor, tokio_rustls::rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Carries out the handshake of a connection; `Ok(None)`: it took too long.
///
/// # Errors
/// The client broke it off, or wants what TLS here does not have.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &TlsAcceptor,
    stream: S,
) -> std::io::Result<Option<TlsStream<S>>> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await.ok().transpose()
}

/// Carries out the handshake of a connection to the port of the API; `None`: the connection is over.
pub(crate) async fn open(tls: TlsAcceptor, mut stream: ClientStream) -> Option<TlsStream<ClientStream>> {
    let mut first = [0];
    let peeked = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await;
    match (peeked, first) {
        (Ok(Ok(1)), [FIRST_BYTE]) => {}
        (Ok(Ok(1)), _) => {
            let _ = stream.write_all(NO_TLS).await;
            let _ = stream.read(&mut [0; 4096]).await; // what is left unread would cut the response off
            return None;
        }
        _ => return None,
    }
    match accept(&tls, stream).await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(%error, "a client broke off its TLS handshake");
            None
        }
    }
}

/// Reads and checks the files of a certificate.
///
/// # Errors
/// What is wrong with which; no part of the key.
fn read(files: &TlsConfig) -> Result<CertifiedKey, ConfigError> {
    let [certificate, key] = [&files.certificate, &files.key].map(|path| path.display().to_string());
    let of_certificate = |why: String| ConfigError(format!("--tls-cert {certificate}: {why}"));
    let chain =
        CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| of_certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(of_certificate("there is no certificate in PEM in it".into()));
    }
    let of_key = |why: String| ConfigError(format!("--tls-key {key}: {why}"));
    let private = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| of_key(error.to_string()))?;
    CertifiedKey::from_der(chain, private, &default_provider())
        .map_err(|error| of_key(format!("it does not belong to {certificate}: {error}")))
}

/// The certificate that clients are shown now.
pub(crate) struct Certificate {
    files: TlsConfig,
    current: Mutex<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which.
    pub(crate) fn open(files: TlsConfig) -> Result<Arc<Self>, ConfigError> {
        let current = Mutex::new(Arc::new(read(&files)?));
        Ok(Arc::new(Self { files, current }))
    }

    /// TLS with this certificate.
    ///
    /// # Errors
    /// When the provider has no protocol version.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, ConfigError> {
        acceptor(self.clone()).map_err(|error| ConfigError(format!("--tls-cert: {error}")))
    }

    /// Reads the files again: for handshakes from now on, while connections stay. Files that cannot be used change nothing.
    pub(crate) fn reload(&self) {
        match read(&self.files) {
            Ok(read) => {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
                tracing::info!("the certificate of {} is in use", self.files.certificate.display());
            }
            Err(error) => tracing::error!("{error}: the old certificate stays in use"),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Certificate({})", self.files.certificate.display())
    }
}
