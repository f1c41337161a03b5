//! HTTP for S3 over hyper and rustls, for object_store, whose own client would bring a second TLS library.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use std::error::Error;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// A connection must come about in this time.
const CONNECT: Duration = Duration::from_secs(5);

/// A service closes connections that are idle for longer, Amazon's after 20 s.
const IDLE: Duration = Duration::from_secs(15);

/// Bytes a second that a service takes at least: a part of an upload gets so much more time than `stall`.
const SLOWEST: u64 = 64 * 1024;

/// Makes clients.
#[derive(Debug)]
pub(super) struct Connector {
    /// Without an answer or a byte for so long, a call fails.
    pub(super) stall: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|on| on == "true");
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        // Where plain HTTP is permitted, this system may trust no certificate.
        let config = latentd_egress::tls_config().or_else(|why| match plain {
            true => latentd_egress::tls_config_without_roots(),
            false => Err(why),
        });
        let config = config.map_err(|why| object_store::Error::Generic {
            store: "S3",
            source: format!("TLS: {why}").into(),
        })?;
        let tls = HttpsConnectorBuilder::new().with_tls_config(config);
        let schemes = if plain { tls.https_or_http() } else { tls.https_only() };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(schemes.enable_http1().wrap_connector(tcp));
        Ok(HttpClient::new(Service { client, stall: self.stall }))
    }
}

/// Makes calls.
#[derive(Debug)]
struct Service {
    client: Client<HttpsConnector<TcpConnector>, HttpRequestBody>,
    stall: Duration,
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sending = Duration::from_secs(request.body().content_length() as u64 / SLOWEST);
        let answer = tokio::time::timeout(self.stall + sending, self.client.request(request)).await;
        let answer = answer.map_err(|elapsed| HttpError::new(HttpErrorKind::Timeout, elapsed))?;
        let answer = answer.map_err(|error| match error.is_connect() {
            true => HttpError::new(HttpErrorKind::Connect, error),
            false => HttpError::new(kind(&error), error),
        })?;
        let stall = self.stall;
        Ok(answer.map(|body| HttpResponseBody::new(Watched { body, stall, timer: None })))
    }
}

/// How a call failed; it decides whether object_store makes it again.
fn kind(error: &(dyn Error + 'static)) -> HttpErrorKind {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            let is_cut_off =
                error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted();
            if is_cut_off || error.is_canceled() {
                return HttpErrorKind::Request;
            }
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            match error.kind() {
                ErrorKind::TimedOut => return HttpErrorKind::Timeout,
                ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof => return HttpErrorKind::Interrupted,
                _ => {}
            }
        }
        next = error.source();
    }
    HttpErrorKind::Unknown
}

/// The body of an answer, which fails when no byte comes for long. The time that nobody reads it does not count.
struct Watched {
    body: Incoming,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|error| HttpError::new(kind(&error), error))),
            );
        }
        let stall = self.stall;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall)));
        ready!(timer.as_mut().poll(context));
        let late = std::io::Error::new(ErrorKind::TimedOut, format!("no byte for {stall:?}"));
        Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, late))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
