//! What every call passes, and the handler of each target. The routes are in `routing/table.rs`.

use crate::access::tokens;
use crate::access::{auth, guard, isolation};
use crate::calls::{
    admin, files, health, metrics, models, payloads, run, run_stream, status, stream, submit, uploads,
    webhook,
};
use crate::docs;
use crate::input::body::{self, Sent};
use crate::openai;
use crate::openapi;
use crate::output::error::ApiError;
use crate::output::openai_error;
use crate::output::request_id::name_answer;
use crate::playground;
use crate::routing::call::Call;
use crate::routing::call_span;
use crate::routing::client_origin::Encrypted;
use crate::routing::table::Access;
use crate::routing::target::Target;
use crate::state::Api;
use crate::websocket::{over_websocket, realtime};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, Method, Request, header};
use axum::response::Response;
use axum::{Extension, Router, middleware};
use latentd_trace::Span;
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

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
    let path = request.uri().path().to_owned();
    let mut span = Span::default();
    let response = serve(&api, request, &mut span).await.unwrap_or_else(|error| {
        api.refusals.count(&error);
        if matches!(error, ApiError::Unavailable(_)) {
            api.probe.note_refusal();
        }
        openai_error::answer(&path, error)
    });
    let response = openai_error::name_answer(&path, name_answer(response));
    call_span::answered(&span, &response);
    response
}

/// Checks a call and has its handler answer; `span` becomes that of a call that makes requests.
async fn serve(api: &Arc<Api>, request: Request<Body>, span: &mut Span) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let mut call = match Call::resolve(api, &parts) {
        Ok(call) => call,
        // Only callers with a key learn which paths there are.
        Err(error) => return auth::by_key(api, &parts.headers).and(Err(error)),
    };
    if auth::is_open(api, &call) {
        call.caller = auth::by_key(api, &parts.headers).unwrap_or(call.caller);
    } else {
        call.caller = match auth::check(api, &call, &parts.headers) {
            Ok(caller) => caller,
            Err(error) => return realtime::refuse(api, &call, parts, error).await,
        };
    }
    if call.access == Access::Admin {
        auth::admin(&call)?;
    }
    isolation::check(api, &call, &parts.headers).await?;
    body::check_encoding(&parts.headers)?;
    if !call.target.is_web_socket() {
        call = call.traced(&parts.headers);
        *span = call.span.clone();
    }
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
        Target::Model(name) => openai::model::get(api, name),
        Target::GenerateImages => openai::images::generate(api, &call, &parts.headers, body).await,
        Target::EditImages => openai::images::edit(api, &call, &parts.headers, body).await,
        Target::Live => health::live(api).await,
        Target::Ready => health::ready(api).await,
        Target::Metrics => metrics::get(api, &call.caller).await,
        Target::Admin(wanted) => admin::serve(api, &call, wanted).await,
        Target::Document => openapi::serve(api, &call),
        Target::Docs => Ok(docs::page(call.links.origin(), call.links.root())),
        Target::DocsAsset(asset) => docs::asset(asset, &parts.headers),
        Target::Proxy => Err(ApiError::UnknownPath(parts.uri.path().to_owned())),
    }
}

/// Pages of any origin that the guard let through may call: keys travel in a header that pages must know, not in cookies.
pub(crate) fn cors() -> CorsLayer {
    let exposed = [
        "x-fal-request-id",
        "x-fal-request-timeout-type",
        "x-fal-error-type",
        "x-fal-billable-units",
        "x-fal-needs-retry",
        "x-fal-retryable",
        "x-fal-served-from",
        "x-request-id",
        "x-should-retry",
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
