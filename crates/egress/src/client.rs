//! HTTP calls to untrusted URLs: connections go to an address that the policy permits and to no other, in plain or over
//! TLS.

mod download;
mod stream;

pub use download::{DownloadError, MAX_DOWNLOAD_BYTES};
pub use stream::{Sink, Streamed, Validators};

use crate::policy::Egress;
use crate::tls::tls_config;
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
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Position, Url};

/// The user agent of every request.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("latentd/", env!("CARGO_PKG_VERSION")));

/// Calls URLs at the addresses that a policy permits.
pub struct Client {
    egress: Egress,
    /// The flag with which the operator permits more, for errors.
    flag: &'static str,
    /// Made when the first https server is called: the system's certificates take memory.
    tls: OnceLock<TlsConnector>,
}

impl Client {
    /// Connects to what `egress` permits; the error of a refused address names `flag`, with which an operator permits it.
    pub fn new(egress: Egress, flag: &'static str) -> Self {
        Self { egress, flag, tls: OnceLock::new() }
    }

    /// Sends `request` to the server of `url` and passes the response to `read` while the connection lasts. Redirects are
    /// not followed.
    ///
    /// # Errors
    /// When no address is permitted, the connection fails, or `read` does.
    pub async fn exchange<T, E: From<String>>(
        &self,
        url: &Url,
        request: Request<Bytes>,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, E>,
    ) -> Result<T, E> {
        let Opened { response, connection: _connection } = self.open(url, request).await?;
        read(response).await
    }

    /// Sends `request` to the server of `url`.
    async fn open(&self, url: &Url, request: Request<Bytes>) -> Result<Opened, String> {
        let addresses = self.egress.resolve(url).await;
        let addresses =
            addresses.map_err(|why| format!("{why}; the operator can allow it with {}", self.flag))?;
        // These addresses were checked; the name is not resolved again.
        let stream = TcpStream::connect(addresses.as_slice()).await;
        let stream = stream.map_err(|error| format!("no connection: {error}"))?;
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
        let config = tls_config().map_err(|why| format!("TLS: {why}"))?;
        Ok(self.tls.get_or_init(|| TlsConnector::from(Arc::new(config))))
    }
}

/// The request in origin form: path and query in its request line, the authority in `host`.
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

/// A response, which is read while its connection lasts.
struct Opened {
    response: Response<Incoming>,
    connection: Connection,
}

/// The task of a connection, which ends with this.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Opened, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // How it ends, the response shows.
    let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok(Opened { response, connection })
}

fn broken(error: hyper::Error) -> String {
    format!("the connection broke: {error}")
}
