//! The accept loop: hyper with the timeouts that `axum::serve` leaves out.

use super::outside::Peer;
use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// A connection has this long to send the head of a request, the next one included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Connections held at once, web sockets included; more wait in the system's backlog.
const MAX_CONNECTIONS: u32 = 8192;

/// Calls in flight have this long to end once the server stops.
const GOODBYE: Duration = Duration::from_secs(5);

/// What a connection holds, and the web socket that it may become: the server waits until it is given back.
#[derive(Clone)]
pub(super) struct Seat {
    _place: Arc<OwnedSemaphorePermit>,
    leaving: watch::Receiver<bool>,
}

impl Seat {
    /// Waits for the end: nothing is worked on any more.
    pub(super) async fn last_call(&mut self) {
        let _ = self.leaving.wait_for(|leaving| *leaving).await;
    }
}

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
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let (leave, leaving) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let seat = Seat { _place: Arc::new(place), leaving: leaving.clone() };
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(open(stream), peer, router.clone(), seat));
            }
            Err(error) => {
                // Out of file descriptors, most likely: others close soon.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    leave.send_replace(true);
    if tokio::time::timeout(GOODBYE, places.acquire_many(MAX_CONNECTIONS)).await.is_err() {
        tracing::warn!("calls still in flight are cut off");
    }
}

/// Serves one connection to its end; after the last call, to the end of the call in flight.
async fn serve<Opened>(
    opening: impl Future<Output = Option<Opened>>,
    peer: Peer,
    router: Router,
    mut seat: Seat,
) where
    Opened: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = tokio::select! { opened = opening => opened, () = seat.last_call() => None };
    let Some(opened) = opened else { return };
    let router = TowerToHyperService::new(router);
    let shared = seat.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(shared.clone());
        router.call(request)
    });
    let connection = builder().serve_connection(TokioIo::new(opened), service).with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = seat.last_call() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
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
) -> std::io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, address) = listener.accept().await?;
    Ok((stream, Peer(address.ip()), place))
}
