//! `/admin/…`: what an administrator looks at and does. The page at `/admin` makes these calls.

pub(crate) mod keys;
pub(crate) mod requests;
pub(crate) mod storage;
pub(crate) mod workers;

use crate::output::error::ApiError;
use crate::routing::admin_call::AdminCall;
use crate::routing::call::Call;
use crate::state::Api;
use axum::Json;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::collections::HashMap;
use utoipa::ToSchema;

/// The server stops.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Draining {
    /// `draining`.
    status: &'static str,
}

/// Answers an administrator's call.
pub(crate) async fn serve(api: &Api, call: &Call, wanted: &AdminCall) -> Result<Response, ApiError> {
    Ok(match wanted {
        AdminCall::Requests => fresh(requests::list(api).await?),
        AdminCall::Workers => fresh(workers::list(api).await?),
        AdminCall::Keys => fresh(keys::list(api, &call.caller).await?),
        AdminCall::Revoke(id) => fresh(keys::revoke(api, id).await?),
        AdminCall::Storage => fresh(storage::get(api).await?),
        AdminCall::Drain => fresh(drain(api)),
    })
}

/// `POST /admin/drain`: stops the server as SIGTERM does.
fn drain(api: &Api) -> Draining {
    tracing::warn!("an administrator drains the server");
    api.drain.notify_one();
    Draining { status: "draining" }
}

fn fresh(body: impl Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// What the owners of keys call them, by the keys' ids.
async fn names_of_keys(api: &Api) -> Result<HashMap<String, String>, ApiError> {
    Ok(api.queue.keys().await?.into_iter().map(|key| (key.id, key.name)).collect())
}
