//! A file that is sent again, because the response to the first upload was lost.

use super::receive::next;
use crate::output::error::ApiError;
use crate::state::Api;
use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use latentd_queue::storage::{Fetched, FileKey};

/// Whether a body equals a stored file. Reads the body only as far as they are equal.
pub(crate) async fn is_same(api: &Api, object: &FileKey, body: &mut Body) -> Result<bool, ApiError> {
    let Some(Fetched { part: Some((mut kept, _)), .. }) = api.storage.get(object, None).await? else {
        return Ok(false);
    };
    let mut expected = Bytes::new();
    while let Some(mut sent) = next(body).await? {
        while !sent.is_empty() {
            if expected.is_empty() {
                let Some(piece) = kept.next().await else { return Ok(false) };
                expected = piece?;
            }
            let length = sent.len().min(expected.len());
            if sent.split_to(length) != expected.split_to(length) {
                return Ok(false);
            }
        }
    }
    Ok(expected.is_empty() && kept.next().await.is_none())
}
