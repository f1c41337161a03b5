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
pub(super) const BEAT_AGE: Duration = Duration::from_secs(17);

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
    /// What is served.
    models: Vec<Served>,
}

/// A model that is served.
#[derive(Serialize, ToSchema)]
struct Served {
    /// `stable-diffusion-3.5-large`.
    name: String,
    /// The same for people.
    title: String,
    /// The endpoint at which it answers.
    endpoint: String,
    /// Workers that have it loaded; the others load it when a request asks for it.
    loaded: u64,
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
    let workers = Workers { ready, loading: all.saturating_sub(ready) };
    let body = Readiness { status, workers, models: models(api).await? };
    Ok((code, Json(body)).into_response())
}

async fn models(api: &Api) -> Result<Vec<Served>, ApiError> {
    let loaded = api.queue.loaded_models(BEAT_AGE).await?;
    let served = api.endpoints.iter().filter(|endpoint| endpoint.served.is_some()).map(|endpoint| Served {
        name: endpoint.model.clone(),
        title: endpoint.title.clone(),
        endpoint: endpoint.id(),
        loaded: loaded.get(&endpoint.model).copied().unwrap_or_default(),
    });
    Ok(served.collect())
}
