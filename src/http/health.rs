//! Is the server alive, and can it paint? Ready means that a worker said so lately, not that a
//! process exists.

use super::Api;
use super::error::ApiError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// A worker beats every five seconds; after three missed beats it does not count.
const BEAT_AGE: Duration = Duration::from_secs(17);

/// The server answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Liveness {
    /// `live`.
    status: &'static str,
}

/// Whether the server can paint.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// `ready`, or what is in the way.
    status: &'static str,
    workers: Workers,
}

/// The workers that were heard of lately.
#[derive(Serialize, ToSchema)]
struct Workers {
    ready: u64,
    loading: u64,
}

/// `GET /health/live`: the process answers and its database can be read.
pub(super) async fn live(api: &Api) -> Result<Response, ApiError> {
    api.queue.live_workers(BEAT_AGE).await?;
    Ok(Json(Liveness { status: "live" }).into_response())
}

/// `GET /health/ready`: at least one worker has its model loaded and new work is accepted.
pub(super) async fn ready(api: &Api) -> Result<Response, ApiError> {
    let (ready, all) = api.queue.live_workers(BEAT_AGE).await?;
    let (code, status) = match (*api.closing.borrow(), ready, all) {
        (true, ..) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, 1.., _) => (StatusCode::OK, "ready"),
        (false, 0, 1..) => (StatusCode::SERVICE_UNAVAILABLE, "loading"),
        (false, 0, 0) => (StatusCode::SERVICE_UNAVAILABLE, "no worker"),
    };
    let body = Readiness { status, workers: Workers { ready, loading: all.saturating_sub(ready) } };
    Ok((code, Json(body)).into_response())
}
