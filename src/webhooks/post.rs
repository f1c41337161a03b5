//! One POST to a stranger: to a checked address, within fifteen seconds, without following or reading.

use crate::egress::Egress;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Position, Url};

/// What a receiver gets for everything: name, connection, answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Posts to what the policy permits.
pub(super) struct Poster {
    egress: Egress,
    /// Made when the first https receiver is called: the system's certificates take memory.
    tls: OnceLock<TlsConnector>,
}

impl Poster {
    pub(super) fn new(egress: Egress) -> Self {
        Self { egress, tls: OnceLock::new() }
    }

    /// Delivered when the receiver answers with any 2xx in time; a redirect is an answer like others.
    pub(super) async fn post(&self, url: &str, request: Request<Bytes>) -> Result<(), String> {
        let url = Url::parse(url).map_err(|error| format!("the URL cannot be called: {error}"))?;
        let answered = tokio::time::timeout(TIMEOUT, self.exchange(&url, request)).await;
        let status = answered.map_err(|_| format!("no answer within {} seconds", TIMEOUT.as_secs()))??;
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("the receiver answered {}", status.as_u16())),
        }
    }

    async fn exchange(&self, url: &Url, request: Request<Bytes>) -> Result<StatusCode, String> {
        let addresses = self
            .egress
            .resolve(url)
            .await
            .map_err(|why| format!("{why}; the operator can allow the receiver with --webhook-allow"))?;
        let stream = connect(&addresses).await?;
        let request = origin_form(url, request)?;
        if url.scheme() != "https" {
            return send(stream, request).await;
        }
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|error| format!("TLS: {error}"))?;
        let stream = self.tls()?.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        send(stream, request).await
    }

    fn tls(&self) -> Result<&TlsConnector, String> {
        if let Some(made) = self.tls.get() {
            return Ok(made);
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("TLS: this system has no root certificates; install ca-certificates".into());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(self.tls.get_or_init(|| TlsConnector::from(Arc::new(config))))
    }
}

/// The first of the addresses that accepts; they were checked, and no name is asked for again.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    TcpStream::connect(addresses).await.map_err(|error| format!("no connection: {error}"))
}

/// The request as it goes to the server itself: path and query in its line, the rest in `host`.
fn origin_form(url: &Url, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the URL cannot be called: {error}");
    let mut request = request.map(Full::new);
    let target = &url[Position::BeforePath..Position::AfterQuery];
    *request.uri_mut() = target.parse::<Uri>().map_err(|error| wrong(&error))?;
    let host = HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort]);
    request.headers_mut().insert(HOST, host.map_err(|error| wrong(&error))?);
    Ok(request)
}

/// The status of the answer. Its body is left unread: whatever its size, it says nothing to us.
async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, String> {
    let broken = |error: hyper::Error| format!("the connection broke: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(sender.send_request(request));
    tokio::select! {
        biased;
        answer = &mut answer => answer.map(|answer| answer.status()).map_err(broken),
        // A connection that ends still hands over the answer that it brought.
        _ = &mut connection => answer.await.map(|answer| answer.status()).map_err(broken),
    }
}
