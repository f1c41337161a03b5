//! The service of a server that has started but waits for its database or its storage of files.

use crate::calls::health;
use crate::output::error::ApiError;
use crate::output::request_id::name_answer;
use crate::router::cors;
use crate::routing::resolve::resolve;
use crate::routing::target::Target;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

/// Answers that the server is alive, and every other call with 503 and `Retry-After`. `/health/ready` reports `status`, in a
/// word or two what is waited for.
pub fn starting_router(status: watch::Receiver<&'static str>) -> Router {
    Router::new().fallback(answer).with_state(status).layer(cors())
}

async fn answer(State(status): State<watch::Receiver<&'static str>>, request: Request<Body>) -> Response {
    let found = resolve(request.method(), "", request.uri().path());
    name_answer(match found.map(|found| found.target) {
        Ok(Target::Live) => health::alive(),
        Ok(Target::Ready) => health::starting(*status.borrow()),
        _ => ApiError::Starting.into_response(),
    })
}
