//! fal's own host names, answered on this machine: programs that only had their environment changed come here for
//! `https://fal.run` and find the same service as on the main port.
//!
//! One loopback port takes TLS, and `CONNECT` of programs that use it as their proxy. Nothing is ever dialled for a name
//! of fal's. The certificates are issued by an authority of this data directory, which is constrained to those names.

mod authority;
mod bundle;
mod certificates;
pub(crate) mod env;
mod folder;
mod proxy;
mod trust_store;
mod tunnel;

pub(crate) use folder::{Running, running};

use crate::config::InterceptConfig;
use crate::tls;
use authority::Authority;
use axum::Router;
use certificates::Certificates;
use folder::Folder;
use jiff::Timestamp;
use latentd_fal::{ClientStream, Connections};
use proxy::Proxy;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Why the interception could not start.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    /// The address.
    #[error("--intercept: cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// A file beside the queue.
    #[error("--intercept: {0}: {1}")]
    File(String, std::io::Error),
    /// Somebody else may read or write what they must not.
    #[error("--intercept: {0} is open to other users: run `chmod {1} {0}`")]
    Open(String, &'static str),
    /// Certificates.
    #[error("--intercept: certificate: {0}")]
    Certificate(String),
}

/// Files of a data directory by which programs trust the server.
pub(crate) struct Trust {
    /// The authority's certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// That and the system's certificates, PEM.
    pub(crate) bundle: PathBuf,
    /// The same for Java, JKS.
    pub(crate) trust_store: PathBuf,
    /// An empty directory to mount files on.
    pub(crate) inside: PathBuf,
}

impl Trust {
    /// The files that a server left in its data directory.
    pub(crate) fn of(data_dir: &Path) -> Self {
        let file = |name| folder::path(data_dir).join(name);
        Self {
            certificate: file(folder::CERTIFICATE),
            bundle: file(folder::BUNDLE),
            trust_store: file(folder::TRUST_STORE),
            inside: file(folder::INSIDE),
        }
    }
}

/// What a connection is read from: a socket, or a socket's tunnel.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A port that answers for fal.
pub struct Interceptor {
    listener: TcpListener,
    address: SocketAddr,
    config: InterceptConfig,
    tls: TlsAcceptor,
}

impl Interceptor {
    /// Listens, and leaves in the data directory what `latentd env` needs. The authority's key is made the first time.
    ///
    /// # Errors
    /// When the port is taken, a file cannot be written, or the authority's key is open to other users.
    pub async fn open(
        data_dir: &Path,
        config: InterceptConfig,
        needs_key: bool,
    ) -> Result<Self, InterceptError> {
        let folder = Folder::make(data_dir)?;
        let authority = Authority::open(&folder, Timestamp::now())?;
        let failed = |error| InterceptError::Listen(config.listen, error);
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        bundle::write_certificates(&folder, &authority)?;
        folder.write_preloads(address)?;
        folder.write_running(&Running { address, needs_key })?;
        let tls = Certificates::new(authority, Box::new(Timestamp::now))?.into_acceptor()?;
        Ok(Self { listener, address, config, tls })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` resolves; its connections count among `connections`.
    pub async fn run(self, router: Router, connections: Arc<Connections>, stop: impl Future<Output = ()>) {
        let router = latentd_fal::encrypted(router);
        let proxy = Arc::new(Proxy::new(router.clone(), self.config.tunnel, self.address));
        let open = move |stream| open(stream, self.tls.clone(), proxy.clone());
        latentd_fal::listen_through(self.listener, open, router, connections, stop).await;
    }
}

/// Ends TLS, after `CONNECT` where the program uses a proxy; what follows is HTTP for one of fal's names. `None`: the
/// connection was answered by the proxy, or broke.
async fn open(
    stream: ClientStream,
    acceptor: TlsAcceptor,
    proxy: Arc<Proxy>,
) -> Option<TlsStream<Box<dyn Stream>>> {
    let mut first = [0];
    let peeked = tokio::time::timeout(tls::HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await;
    if !matches!(peeked, Ok(Ok(1))) {
        return None;
    }
    let stream: Box<dyn Stream> = match first {
        [tls::FIRST_BYTE] => Box::new(stream),
        _ => Box::new(proxy.serve(stream).await?),
    };
    match tls::accept(&acceptor, stream).await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!(%error, "--intercept: a program broke off its TLS handshake; does it trust the certificates that `latentd env` names?");
            None
        }
    }
}
