//! `DELETE /v1/models/requests/{id}/payloads`: erases the input and output of a request. fal's platform API has
//! it too, for keys of administrators.

use crate::access::auth;
use crate::output::error::ApiError;
use crate::routing::call::Call;
use crate::state::Api;
use axum::Json;
use axum::response::{IntoResponse, Response};
use latentd_queue::queue::{Erasure, RequestId};
use latentd_queue::storage::FileKey;
use latentd_queue::sweep;
use serde::Serialize;
use utoipa::ToSchema;

/// What was erased.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "Erased")]
pub(crate) struct Erased {
    /// The result's files.
    cdn_delete_results: Vec<ErasedFile>,
}

/// A file, and what kept it from being removed at once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(title = "ErasedFile")]
struct ErasedFile {
    /// Where it was.
    link: String,
    /// `null`: it is gone; otherwise it goes with the next sweep.
    exception: Option<String>,
}

/// Erases input, output, log and images; files that the client sent stay, for other requests may use them. Nothing of it is
/// left in SQLite's files when this returns, unless another process was reading: then the next sweep sees to that.
pub(crate) async fn delete(api: &Api, call: &Call, id: RequestId) -> Result<Response, ApiError> {
    // Of isolated keys each may erase its own, which the request is: that was checked.
    if !api.isolate_keys {
        auth::admin(call)?;
    }
    let files = match api.queue.erase(id).await? {
        Erasure::Unknown => return Err(ApiError::UnknownRequest),
        Erasure::NotOver => return Err(ApiError::StillInProgress),
        Erasure::Done { files } => files,
    };
    let mut results = Vec::new();
    for key in files {
        let failed = remove(api, &key).await.err().map(|error| format!("{error:?}"));
        results.push(ErasedFile { link: call.links.file(&key), exception: failed });
    }
    if let Err(error) = api.queue.truncate_wal().await {
        tracing::warn!(%error, "the database's log is emptied later");
    }
    Ok(Json(Erased { cdn_delete_results: results }).into_response())
}

/// What fails here is tried again by the sweep.
async fn remove(api: &Api, key: &str) -> Result<(), ApiError> {
    match FileKey::parse(key) {
        Some(object) => Ok(sweep::discard(&api.queue, &api.storage, &object).await?),
        None => Ok(()),
    }
}
