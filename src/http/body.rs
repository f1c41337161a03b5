//! Reads a JSON body: bounded in size and time, empty as `{}`.

use super::error::ApiError;
use super::problem::Problem;
use axum::body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};
use std::time::Duration;

/// Largest body that is read.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A body has this long to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads a body of any content type as JSON.
pub(super) async fn json(body: Body) -> Result<Value, ApiError> {
    let bytes = match tokio::time::timeout(PATIENCE, Limited::new(body, MAX_BYTES).collect()).await {
        Err(_) => return Err(ApiError::BodyTooSlow),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(ApiError::BodyTooLarge(MAX_BYTES)),
        Ok(Err(_)) => return Err(ApiError::BadRequest("the body ended before its time".into())),
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        let problem = Problem::at(&[], "json_invalid", "JSON decode error", &Value::Null);
        ApiError::Invalid(vec![problem.with("error", error.to_string())])
    })
}
