//! Connections to strangers: to an address that the policy permits and to no other, in plain or over TLS.

mod download;

pub use download::{DownloadError, MAX_BYTES};

use crate::egress::Egress;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Position, Url};

/// How this program names itself.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("latentd/", env!("CARGO_PKG_VERSION")));

/// Makes the connections.
pub struct Outgoing {
    egress: Egress,
    /// The flag with which the operator permits more.
    flag: &'static str,
    /// Made when the first https server is called: the system's certificates take memory.
    tls: OnceLock<TlsConnector>,
}

impl Outgoing {
    /// Connects to what `egress` permits; whoever is refused is told of `flag`.
    pub fn new(egress: Egress, flag: &'static str) -> Self {
        Self { egress, flag, tls: OnceLock::new() }
    }

    /// Sends a request to where a URL says, and has the answer read while the connection lasts. Nothing is followed.
    pub(crate) async fn exchange<T, E: From<String>>(
        &self,
        url: &Url,
        request: Request<Bytes>,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, E>,
    ) -> Result<T, E> {
        let addresses = self.egress.resolve(url).await;
        let addresses =
            addresses.map_err(|why| format!("{why}; the operator can allow it with {}", self.flag))?;
        // They were checked, and no name is asked for again.
        let stream = TcpStream::connect(addresses.as_slice()).await;
        let stream = stream.map_err(|error| format!("no connection: {error}"))?;
        let request = origin_form(url, request)?;
        if url.scheme() != "https" {
            return send(stream, request, read).await;
        }
        let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name).map_err(|error| format!("TLS: {error}"))?;
        let stream = self.tls()?.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        send(stream, request, read).await
    }

    fn tls(&self) -> Result<&TlsConnector, String> {
        if let Some(made) = self.tls.get() {
            return Ok(made);
        }
        let config = tls_config().map_err(|why| format!("TLS: {why}"))?;
        Ok(self.tls.get_or_init(|| TlsConnector::from(Arc::new(config))))
    }
}

/// How TLS is spoken, with those whom this system trusts.
pub(crate) fn tls_config() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no root certificates; install ca-certificates".into());
    }
    trusting(roots)
}

/// How TLS is spoken where nobody is trusted.
pub(crate) fn tls_config_without_roots() -> Result<ClientConfig, String> {
    trusting(RootCertStore::empty())
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The request as it goes to the server itself: path and query in its line, the rest in `host`.
fn origin_form(url: &Url, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the URL cannot be called: {error}");
    let mut request = request.map(Full::new);
    let target = &url[Position::BeforePath..Position::AfterQuery];
    *request.uri_mut() = target.parse::<Uri>().map_err(|error| wrong(&error))?;
    let host = HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort]);
    let headers = request.headers_mut();
    headers.insert(HOST, host.map_err(|error| wrong(&error))?);
    headers.insert(USER_AGENT, AGENT);
    Ok(request)
}

async fn send<T, E: From<String>>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, E>,
) -> Result<T, E> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut connection = std::pin::pin!(connection);
    let mut answered =
        std::pin::pin!(async { read(sender.send_request(request).await.map_err(broken)?).await });
    tokio::select! {
        biased;
        answered = &mut answered => answered,
        // A connection that ends still hands over the answer that it brought.
        _ = &mut connection => answered.await,
    }
}

fn broken(error: hyper::Error) -> String {
    format!("the connection broke: {error}")
}
