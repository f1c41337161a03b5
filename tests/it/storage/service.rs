//! An S3 service on a loopback port, which checks signatures, records what it is asked, and fails as a test plans.

use axum::body::Bytes;
use axum::http::{Method, Request, Response, StatusCode};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use latentd::storage::{Location, S3Location, Storage};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(super) const KEY: &str = "latentd-tests";
pub(crate) const SECRET: &str = "not-a-secret";
pub(crate) const BUCKET: &str = "images";

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// The connection breaks after so many bytes of the answer's body.
    CutAnswer(usize),
    /// The connection breaks after so many bytes of the request's body.
    CutRequest(usize),
    /// The answer's body stops after so many bytes, and the connection stays.
    StallAnswer(usize),
    /// The call is carried out, and the connection breaks before its answer.
    LoseAnswer,
    /// The call is carried out, and its answer never comes.
    HoldAnswer,
    /// The service is busy.
    SlowDown,
    /// The key has no right to the call.
    Denied,
    /// The bucket is in another region than the call was signed for.
    WrongRegion,
    /// No answer comes.
    Silent,
}

/// A call as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    pub(super) headers: axum::http::HeaderMap,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    /// Methods and faults of the next calls of these methods.
    planned: VecDeque<(Method, Fault)>,
    /// Every call of a method fails so; `None`: of every method.
    lasting: Vec<(Option<Method>, Fault)>,
}

/// The service. Dropped, it is gone.
pub(crate) struct Service {
    pub(super) endpoint: String,
    root: TempDir,
    state: Arc<Mutex<State>>,
    _connections: JoinSet<()>,
}

impl Service {
    /// With an empty bucket.
    pub(crate) async fn start() -> Self {
        Self::start_over(None).await
    }

    /// The same over TLS.
    pub(super) async fn start_over(tls: Option<TlsAcceptor>) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join(BUCKET)).expect("a bucket");
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).expect("a file system"));
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(Mutex::new(State::default()));
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, tls, service, state.clone()));
        Self { endpoint, root, state, _connections: connections }
    }

    /// A place in the bucket, with the right keys. What fails is given up soon.
    pub(crate) fn location(&self, prefix: &str) -> S3Location {
        self.location_of(&format!("{BUCKET}/{prefix}"), KEY, SECRET)
    }

    pub(super) fn location_of(&self, place: &str, key: &str, secret: &str) -> S3Location {
        self.location_with(place, &[("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)])
    }

    /// A place in the bucket, with a key in these variables.
    pub(super) fn location_with(&self, place: &str, variables: &[(&str, &str)]) -> S3Location {
        let url = format!("s3://{place}?region=us-east-1");
        let fixed = [("AWS_ENDPOINT_URL", self.endpoint.as_str()), ("AWS_ALLOW_HTTP", "true")];
        let variable = |name: &str| {
            let found = fixed.iter().chain(variables).find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let location = S3Location::parse(&url, self.root.path().join("spool"), variable);
        let mut location = location.expect("a location");
        location.retry = Duration::from_secs(10);
        location
    }

    pub(crate) fn storage(&self, prefix: &str) -> Storage {
        Storage::open(&Location::S3(self.location(prefix))).expect("a client")
    }

    /// The next call of a method fails so.
    pub(super) fn plan(&self, method: Method, fault: Fault) {
        self.state.lock().expect("nobody panicked").planned.push_back((method, fault));
    }

    /// Every call fails so, or none any longer.
    pub(crate) fn set_away(&self, is_away: bool) {
        match is_away {
            true => self.always(None, Fault::SlowDown),
            false => self.recover(),
        }
    }

    /// Every call of the method, or of all methods, fails so from now on.
    pub(super) fn always(&self, method: Option<Method>, fault: Fault) {
        self.state.lock().expect("nobody panicked").lasting.push((method, fault));
    }

    /// No call fails any longer.
    pub(super) fn recover(&self) {
        let mut state = self.state.lock().expect("nobody panicked");
        state.lasting.clear();
        state.planned.clear();
    }

    /// The calls that came since this was last asked.
    pub(super) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.lock().expect("nobody panicked").seen)
    }

    /// Names of the objects below a prefix, in order.
    pub(super) fn objects(&self, prefix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.path().join(BUCKET).join(prefix));
        let entries = entries.into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Puts an object into the bucket as another program would.
    pub(super) fn add_object(&self, prefix: &str, name: &str) {
        let folder = self.root.path().join(BUCKET).join(prefix);
        std::fs::create_dir_all(&folder).expect("a prefix");
        std::fs::write(folder.join(name), name).expect("an object");
    }

    /// Parts of uploads that were not ended.
    pub(super) fn unfinished(&self) -> usize {
        let entries = std::fs::read_dir(self.root.path()).expect("the root").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".upload")).count()
    }
}

/// A connection, with TLS or without.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: S3Service,
    state: Arc<Mutex<State>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (service, state, tls) = (service.clone(), state.clone(), tls.clone());
        connections.spawn(async move {
            let stream: Box<dyn Connection> = match tls {
                None => Box::new(stream),
                // A client that does not trust the certificate ends the connection.
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                },
            };
            let answer = service_fn(|request| answer(service.clone(), state.clone(), request));
            // A call that fails ends the connection, as is meant.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Body = UnsyncBoxBody<Bytes, Error>;

async fn answer(
    service: S3Service,
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Error> {
    let fault = note(&mut state.lock().expect("nobody panicked"), &request);
    match fault {
        Some(Fault::SlowDown) => return Ok(failure(StatusCode::SERVICE_UNAVAILABLE, SLOW_DOWN)),
        Some(Fault::Denied) => return Ok(failure(StatusCode::FORBIDDEN, DENIED)),
        Some(Fault::WrongRegion) => return Ok(failure(StatusCode::BAD_REQUEST, WRONG_REGION)),
        Some(Fault::Silent) => std::future::pending().await,
        _ => {}
    }
    // The service of s3s-fs says of a bucket that is missing that the object is.
    if !request.uri().path().starts_with(&format!("/{BUCKET}")) {
        let body = if request.method() == Method::HEAD { "" } else { NO_BUCKET };
        return Ok(failure(StatusCode::NOT_FOUND, body));
    }
    let (parts, body) = request.into_parts();
    let body = match fault {
        Some(Fault::CutRequest(after)) => {
            let mut body = body.into_data_stream();
            let mut read = 0;
            while read < after
                && let Some(Ok(bytes)) = body.next().await
            {
                read += bytes.len();
            }
            return Err(broken());
        }
        _ => s3s::Body::from(body),
    };
    // Services of S3 create an object where there is none in one step; s3s-fs looks first and writes then.
    static CREATING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = match parts.headers.contains_key("if-none-match") {
        true => Some(CREATING.lock().await),
        false => None,
    };
    let called = service.call(Request::from_parts(parts, body)).await;
    let (parts, body) = called.map_err(|error| Error::other(format!("{error:?}")))?.into_parts();
    let body = body.map_err(|error| Error::other(error.to_string()));
    let body = match fault {
        Some(Fault::LoseAnswer) => return Err(broken()),
        Some(Fault::HoldAnswer) => std::future::pending().await,
        Some(Fault::CutAnswer(after)) => cut(body, after, true),
        Some(Fault::StallAnswer(after)) => cut(body, after, false),
        _ => body.boxed_unsync(),
    };
    Ok(Response::from_parts(parts, body))
}

fn note(state: &mut State, request: &Request<Incoming>) -> Option<Fault> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let (method, headers) = (request.method(), request.headers().clone());
    state.seen.push(Seen { method: method.clone(), path, headers });
    let planned = state.planned.iter().position(|(of, _)| of == method);
    let planned = planned.and_then(|at| state.planned.remove(at)).map(|(_, fault)| fault);
    let lasts = |of: &Option<Method>| of.as_ref().is_none_or(|of| of == method);
    planned.or(state.lasting.iter().find(|(of, _)| lasts(of)).map(|(_, fault)| *fault))
}

/// The body up to a byte, then a failure, which breaks the connection, or nothing.
fn cut(
    body: impl hyper::body::Body<Data = Bytes, Error = Error> + Send + 'static,
    after: usize,
    breaks: bool,
) -> Body {
    let start = async move {
        let mut body = Box::pin(body.into_data_stream());
        let mut left = after;
        let mut pieces = Vec::new();
        while left > 0
            && let Some(Ok(bytes)) = body.next().await
        {
            let piece = bytes.slice(..bytes.len().min(left));
            left -= piece.len();
            pieces.push(Ok(Frame::data(piece)));
        }
        // What was written is sent before the connection breaks.
        let pause = stream::once(async move {
            if !breaks {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err(broken())
        });
        stream::iter(pieces).chain(pause)
    };
    StreamBody::new(stream::once(start).flatten()).boxed_unsync()
}

fn broken() -> Error {
    Error::new(ErrorKind::ConnectionReset, "planned")
}

const SLOW_DOWN: &str =
    "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";

const WRONG_REGION: &str = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region 'us-east-1' is wrong; expecting 'eu-north-1'</Message></Error>";

const NO_BUCKET: &str =
    "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";

fn failure(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response =
        Response::new(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}
