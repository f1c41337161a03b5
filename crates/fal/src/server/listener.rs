//! The accept loop: hyper with the timeouts and limits that `axum::serve` leaves out.

use crate::output::request_id::name_answer;
use crate::server::connections::{ClientStream, ConnectionPermit, Connections, PacedBody};
use crate::server::peer::Peer;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A connection has this long to send the head of a request, the next one included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Calls that one connection of HTTP/2 may carry at once.
const MAX_STREAMS: u32 = 32;

/// Bytes of a body that a client of HTTP/2 may send before the server takes them.
const WINDOW: u32 = 64 * 1024;

/// Calls in flight have this long to end once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often clients that do not read are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// The response to a client for whom there is no connection.
const NO_CONNECTION: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// Serves until `stop` resolves, then lets the calls in flight end.
pub async fn listen(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    listen_through(listener, async |stream| Some(stream), router, Arc::default(), stop).await;
}

/// Serves what `open` makes of each connection; `None` is a connection that needs nothing more. Listeners may share
/// `connections`.
pub async fn listen_through<Opening, Opened>(
    listener: TcpListener,
    open: impl Fn(ClientStream) -> Opening,
    router: Router,
    connections: Arc<Connections>,
    stop: impl Future<Output = ()>,
) where
    Opening: Future<Output = Option<Opened>> + Send + 'static,
    Opened: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (drain, draining) = watch::channel(false);
    let mut clock = tokio::time::interval(LOOK);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = clock.tick() => {
                connections.close_stalled();
                continue;
            }
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, address)) => match connections.admit(address.ip(), &draining) {
                Some(permit) => {
                    let _ = stream.set_nodelay(true);
                    let stream = ClientStream::new(stream, permit.activity());
                    tokio::spawn(serve(open(stream), Peer(address.ip()), router.clone(), permit));
                }
                None => refuse(&connections, &stream),
            },
            Err(error) => {
                // Out of file descriptors, most likely: others close soon.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    drain.send_replace(true);
    if tokio::time::timeout(DRAIN_TIMEOUT, connections.all_over()).await.is_err() {
        tracing::warn!("calls still in flight are cut off");
    }
}

fn refuse(connections: &Connections, stream: &TcpStream) {
    if connections.is_time_to_warn() {
        tracing::warn!(
            "clients are refused: there are as many connections as there may be, and all are in use"
        );
    }
    // A fresh connection takes so little at once. Where TLS is expected it is as good as nothing.
    let _ = stream.try_write(NO_CONNECTION);
}

/// Serves one connection to its end; once the server drains, to the end of the call in flight.
async fn serve<Opened>(
    opening: impl Future<Output = Option<Opened>>,
    peer: Peer,
    router: Router,
    mut permit: ConnectionPermit,
) where
    Opened: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = tokio::select! { opened = opening => opened, () = permit.draining() => None };
    let Some(opened) = opened else { return };
    permit.begin_http();
    let idle = permit.clone();
    let router = TowerToHyperService::new(router);
    let shared = permit.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let is_shared = request.version() == Version::HTTP_2;
        let is_head = request.method() == Method::HEAD;
        // The call is in work until all of its answer was sent.
        let call = if is_shared { shared.begin_stream() } else { Some(shared.begin_call()) };
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(shared.clone());
        let answer = call.map(|call| (router.call(request), call));
        async move {
            let Some((answer, call)) = answer else { return Ok(too_many_calls()) };
            answer.await.map(|response| match (is_shared, is_head) {
                (false, _) => response.map(|body| PacedBody::alone(body, call)),
                (true, false) => response.map(|body| PacedBody::shared(body, call)),
                // With HTTP/1 hyper leaves the body out itself.
                (true, true) => without_body(response),
            })
        }
    });
    let builder = either_version();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(opened), service);
    let mut connection = pin!(connection);
    let is_over = async {
        tokio::select! { () = permit.draining() => {}, () = idle.retired() => {} }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = is_over => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke");
    }
}

/// The head of a response, with the length of what it leaves out.
fn without_body(response: Response<Body>) -> Response<PacedBody> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    Response::from_parts(parts, PacedBody::none())
}

/// The response to a call beyond the limit of concurrent calls.
fn too_many_calls() -> Response<PacedBody> {
    let mut response = Response::new(PacedBody::none());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    name_answer(response)
}

/// HTTP/1.1 and HTTP/2, detected by the first bytes of the client. What one connection of HTTP/2 may hold is about as much as
/// one of HTTP/1 for each of its calls.
fn either_version() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(2 * WINDOW)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buf_size(MAX_HEAD_BYTES);
    builder
}

/// How requests of HTTP/1 are read from a connection, whatever carries it.
pub fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    builder
}
