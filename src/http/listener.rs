//! The accept loop: hyper with the timeouts that `axum::serve` leaves out.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A connection has this long to send the head of a request, the next one included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Connections held at once; more wait in the system's backlog.
const MAX_CONNECTIONS: usize = 8192;

/// Calls in flight have this long to end once the server stops.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves until `stop` resolves, then lets the calls in flight end.
pub async fn listen(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    listen_through(listener, async |stream| Some(stream), router, stop).await;
}

/// Serves what `open` makes of each connection; `None` is a connection that needs nothing more.
pub async fn listen_through<Opening, Opened>(
    listener: TcpListener,
    open: impl Fn(TcpStream) -> Opening,
    router: Router,
    stop: impl Future<Output = ()>,
) where
    Opening: Future<Output = Option<Opened>> + Send + 'static,
    Opened: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let (stopping, is_stopping) = watch::channel(false);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others close soon.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let opening = open(stream);
        let service = TowerToHyperService::new(router.clone());
        let watcher = graceful.watcher();
        let mut is_stopping = is_stopping.clone();
        tokio::spawn(async move {
            let opened = tokio::select! {
                opened = opening => opened,
                _ = is_stopping.wait_for(|stopping| *stopping) => None,
            };
            if let Some(opened) = opened {
                let connection = builder().serve_connection(TokioIo::new(opened), service);
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%error, "a connection broke");
                }
            }
            drop(place);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    if tokio::time::timeout(GOODBYE, graceful.shutdown()).await.is_err() {
        tracing::warn!("calls still in flight are cut off");
    }
}

/// How requests are read from a connection, whatever carries it.
pub fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    builder
}

/// Waits for a place, then for a connection to fill it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    Ok((listener.accept().await?.0, place))
}
