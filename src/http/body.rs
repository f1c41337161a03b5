//! Reads a JSON body: bounded in size and time, empty as `{}`.

use super::error::ApiError;
use super::problem::Problem;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use std::time::Duration;

/// Largest body that is read.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A larger body is read to its end, and thrown away, up to this size.
const MAX_DISCARDED: usize = 8 * MAX_BYTES;

/// A body has this long to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bodies come as they are: what is packed could not be bounded in size.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    match encoding.is_none_or(|encoding| encoding.eq_ignore_ascii_case(b"identity")) {
        true => Ok(()),
        false => Err(ApiError::Encoded),
    }
}

/// Reads a body of any content type as JSON.
pub(super) async fn json(body: Body) -> Result<Value, ApiError> {
    let bytes = match tokio::time::timeout(PATIENCE, read(body)).await {
        Err(_) => return Err(ApiError::BodyTooSlow),
        Ok(read) => read?,
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        let problem = Problem::at(&[], "json_invalid", "JSON decode error", &Value::Null);
        ApiError::Invalid(vec![problem.with("error", error.to_string())])
    })
}

/// Reads to the end. What is too much is thrown away, but read up to a limit all the same: a
/// client that is still sending would see a broken connection and not the answer.
async fn read(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut seen) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::BadRequest("the body ended before its time".into()))?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        seen += data.len();
        if seen <= MAX_BYTES {
            bytes.extend_from_slice(data);
        } else if seen <= MAX_DISCARDED {
            bytes = Vec::new();
        } else {
            break;
        }
    }
    if seen > MAX_BYTES { Err(ApiError::BodyTooLarge(MAX_BYTES)) } else { Ok(bytes) }
}
