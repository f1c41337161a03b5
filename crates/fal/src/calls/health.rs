//! Is the server alive, and can it generate images? Ready means that a worker reported so lately, that the database was
//! written a moment ago, that disks have room and that a bucket of files answers, not that a process exists.

use crate::output::error::{ApiError, RETRY_AFTER_S};
use crate::state::Api;
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// A worker beats every five seconds; after three missed beats it does not count.
pub(crate) const BEAT_AGE: Duration = Duration::from_secs(17);

/// The status of a server that can generate images.
const READY: &str = "ready";

/// The server answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Liveness {
    /// `live`.
    status: &'static str,
}

/// Whether the server can generate images.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, or the reason why not.
    status: &'static str,
    workers: Workers,
    /// Devices of this server whose workers failed again and again, and are not started for a while.
    devices_set_aside: Vec<SetAside>,
    /// The models that are served.
    models: Vec<Served>,
}

/// A device that is set aside.
#[derive(Serialize, ToSchema)]
struct SetAside {
    /// `cpu`, or `cuda:N`.
    device: String,
    /// How its workers failed, for people.
    reason: String,
}

/// A model that is served.
#[derive(Serialize, ToSchema)]
struct Served {
    /// The model that answers: `stable-diffusion-3.5-large`, or `mini`, which stands in for others.
    name: String,
    /// The same for people.
    title: String,
    /// The endpoint at which it answers.
    endpoint: String,
    /// Workers that have it loaded; the others load it when a request asks for it.
    loaded: u64,
}

/// The workers that reported lately.
#[derive(Serialize, ToSchema)]
struct Workers {
    ready: u64,
    loading: u64,
}

/// `GET /health/live`: the process answers, and a database of its own can be read. Where the database is a server that is
/// away, starting this process again would help nobody.
pub(crate) async fn live(api: &Api) -> Result<Response, ApiError> {
    if !api.queue.is_shared() {
        api.queue.live_workers(BEAT_AGE).await?;
    }
    Ok(alive())
}

/// The answer of a server that is alive.
pub(crate) fn alive() -> Response {
    Json(Liveness { status: "live" }).into_response()
}

/// The readiness of a server that has started and waits for what `status` says.
pub(crate) fn starting(status: &'static str) -> Response {
    let workers = Workers { ready: 0, loading: 0 };
    let body = Readiness { status, workers, devices_set_aside: Vec::new(), models: Vec::new() };
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, RETRY_AFTER_S)], Json(body)).into_response()
}

/// `GET /health/ready`: at least one worker has its model loaded and new work is accepted.
pub(crate) async fn ready(api: &Api) -> Result<Response, ApiError> {
    let (ready, all) = api.queue.live_workers(BEAT_AGE).await?;
    let is_closing = *api.closing.borrow();
    let devices = api.queue.devices();
    let is_any_in_use = devices.is_empty() || devices.values().any(Option::is_none);
    let status = match (ready, all) {
        _ if is_closing => "stopping",
        _ if api.disks.check(0).is_err() => "disk full",
        _ if !api.probe.can_write(&api.queue).await => "cannot write",
        _ if !api.probe.can_store(&api.storage).await => "storage unavailable",
        (1.., _) => READY,
        (0, 1..) => "loading",
        (0, 0) if !is_any_in_use => "every device is set aside",
        (0, 0) => "no worker",
    };
    let code = if status == READY { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let workers = Workers { ready, loading: all.saturating_sub(ready) };
    let set_aside = devices.into_iter().filter_map(|(device, why)| Some(SetAside { device, reason: why? }));
    let devices_set_aside = set_aside.collect();
    let body = Readiness { status, workers, devices_set_aside, models: models(api).await? };
    Ok((code, Json(body)).into_response())
}

async fn models(api: &Api) -> Result<Vec<Served>, ApiError> {
    let loaded = api.queue.loaded_models(BEAT_AGE).await?;
    let served = api.endpoints.iter().filter(|endpoint| endpoint.served.is_some()).map(|endpoint| Served {
        name: endpoint.answering().to_owned(),
        title: endpoint.answering_title(),
        endpoint: endpoint.id(),
        loaded: loaded.get(&endpoint.model).copied().unwrap_or_default(),
    });
    Ok(served.collect())
}
