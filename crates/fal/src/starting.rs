//! The service of a server that has started but waits for its database or its storage of files.

use crate::calls::health;
use crate::output::error::ApiError;
use crate::output::openai_error;
use crate::output::request_id::name_answer;
use crate::router::cors;
use crate::routing::resolve::resolve;
use crate::routing::target::Target;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::Response;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Hands calls on to the service in `ready` once it is there. Until then it answers that the server is alive, and every
/// other call with 503 and `Retry-After`; `/health/ready` reports `status`, in a word or two what is waited for.
pub fn starting_router(status: watch::Receiver<&'static str>, ready: Arc<OnceLock<Router>>) -> Router {
    let waiting = Router::new().fallback(answer).with_state(status).layer(cors());
    Router::new().fallback(choose).with_state(Stages { waiting, ready })
}

/// The service while the server waits, and the one after that.
#[derive(Clone)]
struct Stages {
    waiting: Router,
    ready: Arc<OnceLock<Router>>,
}

async fn choose(State(stages): State<Stages>, request: Request<Body>) -> Response {
    let router = stages.ready.get().unwrap_or(&stages.waiting).clone();
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn answer(State(status): State<watch::Receiver<&'static str>>, request: Request<Body>) -> Response {
    let found = resolve(request.method(), "", request.uri().path());
    let path = request.uri().path();
    let response = name_answer(match found.map(|found| found.target) {
        Ok(Target::Live) => health::alive(),
        Ok(Target::Ready) => health::starting(*status.borrow()),
        _ => openai_error::answer(path, ApiError::Starting),
    });
    openai_error::name_answer(path, response)
}
