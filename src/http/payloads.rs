//! `DELETE /v1/models/requests/{id}/payloads`: what a request brought and made goes now. fal's platform API has
//! it too, for keys of administrators.

use super::Api;
use super::auth;
use super::call::Call;
use super::error::ApiError;
use crate::queue::{Erasure, RequestId};
use crate::storage::FileKey;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Erases input, output and pictures; files that the client sent stay, for other requests may use them.
pub(super) async fn delete(api: &Api, call: &Call, id: RequestId) -> Result<Response, ApiError> {
    auth::admin(call)?;
    let files = match api.queue.erase(id).await? {
        Erasure::Unknown => return Err(ApiError::UnknownRequest),
        Erasure::NotOver => return Err(ApiError::StillInProgress),
        Erasure::Done { files } => files,
    };
    let mut results = Vec::new();
    for key in files {
        let failed = remove(api, &key).await.err().map(|error| format!("{error:?}"));
        results.push(json!({ "link": call.links.file(&key), "exception": failed }));
    }
    let results: Value = results.into();
    Ok(Json(json!({ "cdn_delete_results": results })).into_response())
}

/// What fails here is tried again by the sweep.
async fn remove(api: &Api, key: &str) -> Result<(), ApiError> {
    if let Some(object) = FileKey::parse(key) {
        api.storage.delete(&object).await?;
    }
    Ok(api.queue.forget_file(key).await?)
}
