//! The fal.ai model API over HTTP. Reaches pictures only through the queue and the storage;
//! knows neither workers nor engines.
//!
//! The private function `serve` is the table: one arm per kind of call.

mod auth;
mod barred;
mod body;
mod call;
mod connections;
mod docs;
mod error;
mod field;
mod fields;
mod files;
mod frames;
mod guard;
mod guarded_body;
mod health;
mod held;
mod hosts;
mod idempotency;
mod input;
mod listener;
mod memory;
mod metrics;
mod models;
mod openapi;
mod outside;
mod over_websocket;
mod payloads;
mod playground;
mod problem;
mod query;
mod realtime;
mod routes;
mod run;
mod run_stream;
mod socket;
mod status;
mod stream;
mod submit;
mod target;
mod terms;
mod tokens;
mod uploads;
mod value;
mod waiting_clients;
mod webhook;
mod wire;

pub use connections::{ClientStream, Connections, MAX_CONNECTIONS};
pub use health::Probe;
pub use hosts::{FAL_DOMAINS, is_fal};
pub use listener::{builder, listen, listen_through};
pub use memory::ConnectionMemory;
pub use metrics::Refusals;
pub use openapi::Documents;
pub use waiting_clients::WaitingClients;
pub use webhook::webhook_message;

use crate::disk::Disks;
use crate::endpoint::Endpoint;
use crate::keys::KeyRing;
use crate::queue::Queue;
use crate::signing::SigningKey;
use crate::storage::Storage;
use crate::web_access::WebAccess;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Method, Request, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, middleware};
use body::Sent;
use call::Call;
use error::ApiError;
use ipnet::IpNet;
use latentd_egress::Egress;
use outside::Encrypted;
use std::sync::Arc;
use std::time::Duration;
use target::Target;
use tokio::sync::watch;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use url::Url;

/// Names the request on every answer; clients report it as theirs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-fal-request-id");

/// What the API stands on.
pub struct Api {
    /// Where requests go.
    pub queue: Queue,
    /// Where files come from.
    pub storage: Storage,
    /// What both are written to.
    pub disks: Disks,
    /// Every endpoint that is known, and what answers there.
    pub endpoints: Vec<Endpoint>,
    /// Keys that open the API.
    pub keys: KeyRing,
    /// Which host names and web pages may be used while there are no keys.
    pub web: WebAccess,
    /// Whether the metrics are read without a key.
    pub metrics_open: bool,
    /// Where clients reach the server; `None`: where their request says they did.
    pub public_url: Option<Url>,
    /// Peers that are believed when they say how a client reached them.
    pub trusted_proxies: Vec<IpNet>,
    /// Waiting requests above which new ones are refused.
    pub max_queue: u64,
    /// Bytes of the largest file that a client may send.
    pub max_upload: u64,
    /// Uploads that were announced and not sent yet, above which new ones are refused.
    pub max_open_uploads: u64,
    /// Refuse invalid input at submit.
    pub validate_on_submit: bool,
    /// Where webhooks may go.
    pub egress: Egress,
    /// Signs webhooks.
    pub signing: Arc<SigningKey>,
    /// How long a run is held back until its status is known.
    pub run_patience: Duration,
    /// How many calls were refused, and why.
    pub refusals: Refusals,
    /// What is told of this API.
    pub documents: Documents,
    /// What all calls and web sockets together may hold of what clients send.
    pub memory: ConnectionMemory,
    /// Who waits for what.
    pub waiting_clients: WaitingClients,
    /// Whether the database can be written.
    pub probe: Probe,
    /// Turns true when the server stops: no new work is accepted then.
    pub closing: watch::Receiver<bool>,
}

/// The service of every path.
pub fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let guard = middleware::from_fn_with_state(api.clone(), guard::guard);
    Router::new().fallback(dispatch).with_state(api).layer(cors()).layer(guard)
}

/// The same service for connections that are encrypted: it renders `https` URLs.
pub fn encrypted(router: Router) -> Router {
    router.layer(Extension(Encrypted))
}

/// Answers a call, names it, and turns errors into answers.
async fn dispatch(State(api): State<Arc<Api>>, request: Request<Body>) -> Response {
    name_answer(serve(&api, request).await.unwrap_or_else(|error| {
        api.refusals.count(&error);
        if matches!(error, ApiError::Unavailable(_)) {
            api.probe.note_refusal();
        }
        error.into_response()
    }))
}

/// Every answer has an id: that of its request, or else one of its own.
fn name_answer(mut response: Response) -> Response {
    response.headers_mut().entry(REQUEST_ID).or_insert_with(|| id_header(uuid::Uuid::new_v4()));
    response
}

/// The table of the API.
async fn serve(api: &Arc<Api>, request: Request<Body>) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let mut call = match Call::resolve(api, &parts) {
        Ok(call) => call,
        // What is here and what is not is told to callers with a key only.
        Err(error) => return auth::by_key(api, &parts.headers).and(Err(error)),
    };
    let is_open =
        call::is_public(&parts.method, &call.target) || call.target == Target::Metrics && api.metrics_open;
    if !is_open {
        call.caller = match auth::check(api, &call, &parts.headers) {
            Ok(caller) => caller,
            Err(error) => return realtime::refuse(api, &call, parts, error).await,
        };
    }
    body::check_encoding(&parts.headers)?;
    match &call.target {
        Target::Submit(application) => submit::submit(api, &call, application, &parts.headers, body).await,
        Target::Run(application) => {
            run::run(api, &call, application, &parts.headers, Sent::Stream(body)).await
        }
        Target::RunStream(application) => {
            run_stream::run(api, &call, application, &parts.headers, Sent::Stream(body)).await
        }
        Target::Realtime(application) => realtime::open(api, &call, application, parts).await,
        Target::OverWebSocket(application) => over_websocket::open(api, &call, application, parts).await,
        Target::Status(id) => status::status(api, &call, *id).await,
        Target::StatusStream(id) => stream::status(api, call.clone(), *id).await,
        Target::Result(id) => status::result(api, &call, *id).await,
        Target::Cancel(id) => status::cancel(api, *id).await,
        Target::Payloads(id) => payloads::delete(api, &call, *id).await,
        Target::File(key) => files::get(api, key, &parts.headers).await,
        Target::SigningKeys => Ok(webhook::keys(api)),
        Target::Upload(upload) => uploads::serve(api, &call, upload, &parts.headers, body).await,
        Target::Tokens => tokens::create(api, &call, body).await,
        Target::Playground(asset) => Ok(playground::get(asset, &parts.headers)),
        Target::Models => Ok(models::list(api, &call)),
        Target::Live => health::live(api).await,
        Target::Ready => health::ready(api).await,
        Target::Metrics => metrics::get(api).await,
        Target::Document => openapi::serve(api, &call),
        Target::Docs => Ok(docs::page(&call.links)),
        Target::DocsAsset(asset) => docs::asset(asset, &parts.headers),
        Target::Proxy => Err(ApiError::UnknownPath(parts.uri.path().to_owned())),
    }
}

fn id_header(id: impl std::fmt::Display) -> HeaderValue {
    HeaderValue::try_from(id.to_string()).expect("an id is hex digits and dashes")
}

/// Pages of any origin that the guard let through may call: keys travel in a header that pages must know, not in cookies.
fn cors() -> CorsLayer {
    let exposed = [
        "x-fal-request-id",
        "x-fal-request-timeout-type",
        "x-fal-error-type",
        "x-fal-billable-units",
        "x-fal-needs-retry",
        "x-fal-retryable",
        "x-fal-served-from",
        "etag",
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(
            exposed.map(HeaderName::from_static).into_iter().chain([header::RETRY_AFTER]).collect::<Vec<_>>(),
        )
        .max_age(Duration::from_secs(86_400))
}
