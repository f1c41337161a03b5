//! Is the server alive, and can it generate pictures? Ready means that a worker said so lately, that the database was
//! written a moment ago and that disks have room, not that a process exists.

use crate::output::error::ApiError;
use crate::state::Api;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use latentd_queue::queue::Queue;
use serde::Serialize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// A worker beats every five seconds; after three missed beats it does not count.
pub(crate) const BEAT_AGE: Duration = Duration::from_secs(17);

/// How long the database is taken to be as it was found.
const PROBE_AGE: Duration = Duration::from_secs(1);

/// How long a refused write says more than a look.
const REFUSAL_AGE: Duration = Duration::from_secs(5);

/// Nothing is in the way.
const READY: &str = "ready";

/// The server answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Liveness {
    /// `live`.
    status: &'static str,
}

/// Whether the server can paint.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, or what is in the way.
    status: &'static str,
    workers: Workers,
    /// What is served.
    models: Vec<Served>,
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

/// The workers that were heard of lately.
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
    Ok(Json(Liveness { status: "live" }).into_response())
}

/// What is known of whether the server can write. Whoever asks often gets the same answer for a while.
#[derive(Default)]
pub struct Probe {
    looked: tokio::sync::Mutex<Option<(Instant, bool)>>,
    refused: Mutex<Option<Instant>>,
}

impl Probe {
    /// A call was refused because something could not be written. A look may find room for the little that it writes.
    pub(crate) fn note_refusal(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    async fn can_write(&self, queue: &Queue) -> bool {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_none_or(|at| at.elapsed() > REFUSAL_AGE) && self.look(queue).await
    }

    async fn look(&self, queue: &Queue) -> bool {
        let mut last = self.looked.lock().await;
        if let Some((at, can_write)) = *last
            && at.elapsed() < PROBE_AGE
        {
            return can_write;
        }
        let written = queue.probe().await;
        if let Err(error) = &written {
            tracing::warn!(%error, "the database cannot be written");
        }
        *last = Some((Instant::now(), written.is_ok()));
        written.is_ok()
    }
}

/// `GET /health/ready`: at least one worker has its model loaded and new work is accepted.
pub(crate) async fn ready(api: &Api) -> Result<Response, ApiError> {
    let (ready, all) = api.queue.live_workers(BEAT_AGE).await?;
    let is_closing = *api.closing.borrow();
    let status = match (ready, all) {
        _ if is_closing => "stopping",
        _ if api.disks.check(0).is_err() => "disk full",
        _ if !api.probe.can_write(&api.queue).await => "cannot write",
        (1.., _) => READY,
        (0, 1..) => "loading",
        (0, 0) => "no worker",
    };
    let code = if status == READY { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let workers = Workers { ready, loading: all.saturating_sub(ready) };
    let body = Readiness { status, workers, models: models(api).await? };
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
