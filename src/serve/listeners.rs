//! The ports of the server, and who answers there before and after it is ready.

use super::ServeError;
use crate::config::ServeConfig;
use crate::intercept::Interceptor;
use crate::system;
use crate::tls;
use axum::Router;
use latentd_fal::{Connections, MAX_CONNECTIONS};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The ports.
pub(super) struct Listeners {
    connections: Arc<Connections>,
    port: Port,
    pub(super) interceptor: Option<Interceptor>,
}

/// The port of the API.
enum Port {
    /// Nobody answers there yet.
    Bound(TcpListener, Option<TlsAcceptor>),
    /// Clients are answered there since before the server was ready.
    Answering(Answering),
}

/// The port of the API, and the task that answers there: with 503 until the server is ready.
pub(super) struct Answering {
    address: SocketAddr,
    connections: Arc<Connections>,
    /// What the server waits for.
    pub(super) status: watch::Sender<&'static str>,
    /// What answers once it is ready. Connections stay, so no client is cut off then.
    ready: Arc<OnceLock<Router>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listeners {
    /// Opens the ports; that of the API may be answered already.
    pub(super) async fn open(
        config: &ServeConfig,
        tls: Option<TlsAcceptor>,
        answering: Option<Answering>,
    ) -> Result<Self, ServeError> {
        let (connections, port) = match answering {
            Some(answering) => (answering.connections.clone(), Port::Answering(answering)),
            None => (open_connections(config), Port::Bound(listen(config).await?, tls)),
        };
        let Some(settings) = config.intercept.clone() else {
            return Ok(Self { connections, port, interceptor: None });
        };
        let needs_key = !config.access.keys.is_empty();
        let interceptor = Interceptor::open(&config.store.data_dir, settings, needs_key).await?;
        Ok(Self { connections, port, interceptor: Some(interceptor) })
    }

    /// Where the API is.
    pub(super) fn address(&self) -> std::io::Result<SocketAddr> {
        match &self.port {
            Port::Bound(listener, _) => listener.local_addr(),
            Port::Answering(answering) => Ok(answering.address),
        }
    }

    /// Serves clients until the workers have stopped.
    pub(super) async fn run(self, router: Router, workers_stopped: watch::Receiver<bool>) {
        let Self { connections, port, interceptor } = self;
        let answer_for_fal = async {
            if let Some(interceptor) = interceptor {
                let stop = super::is_true(workers_stopped.clone());
                interceptor.run(router.clone(), connections.clone(), stop).await;
            }
        };
        let stop = super::is_true(workers_stopped.clone());
        let answer = async {
            match port {
                Port::Bound(listener, tls) => {
                    answer(listener, tls, router.clone(), connections.clone(), stop).await;
                }
                Port::Answering(answering) => answering.run(router.clone(), stop).await,
            }
        };
        tokio::join!(answer, answer_for_fal);
    }
}

impl Answering {
    /// Answers clients with 503; `/health/ready` reports `status`.
    pub(super) async fn start(
        config: &ServeConfig,
        tls: Option<TlsAcceptor>,
        status: &'static str,
    ) -> Result<Self, ServeError> {
        let listener = listen(config).await?;
        let address = listener.local_addr()?;
        let connections = open_connections(config);
        let ((status, statuses), (stop, stopped)) = (watch::channel(status), watch::channel(false));
        let ready = Arc::default();
        let router = latentd_fal::starting_router(statuses, Arc::clone(&ready));
        let task = tokio::spawn(answer(listener, tls, router, connections.clone(), super::is_true(stopped)));
        tracing::warn!("listening on {address}, where calls get 503 until the server is ready");
        Ok(Self { address, connections, status, ready, stop, task })
    }

    /// Has `router` answer from now on, until `stop` resolves.
    async fn run(self, router: Router, stop: impl Future<Output = ()>) {
        let _ = self.ready.set(router);
        stop.await;
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that answers clients failed");
        }
    }
}

async fn answer(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    connections: Arc<Connections>,
    stop: impl Future<Output = ()>,
) {
    let Some(tls) = tls else {
        return latentd_fal::listen_through(listener, async |stream| Some(stream), router, connections, stop)
            .await;
    };
    let router = latentd_fal::encrypted(router);
    let open = move |stream| tls::open(tls.clone(), stream);
    latentd_fal::listen_through(listener, open, router, connections, stop).await;
}

/// Listens on the port of the API.
async fn listen(config: &ServeConfig) -> Result<TcpListener, ServeError> {
    TcpListener::bind(config.listen).await.map_err(|error| ServeError::Listen(config.listen, error))
}

/// The connections of both ports.
fn open_connections(config: &ServeConfig) -> Arc<Connections> {
    Arc::new(Connections::new(open_files(), config.trusted_proxies.clone()))
}

/// Files that may be open: as many as the system lets a process have.
fn open_files() -> Option<u64> {
    let files = system::raise_open_files()?;
    let connections = Connections::within(files);
    if connections < MAX_CONNECTIONS {
        tracing::warn!(
            files,
            connections,
            "few files may be open, so few clients may be connected: raise the limit with `ulimit -n` or LimitNOFILE="
        );
    }
    Some(files)
}
