//! `Idempotency-Key`: a request that is sent again is the one that was sent before.

use super::error::ApiError;
use super::target::Application;
use crate::queue::Idempotency;
use axum::http::HeaderMap;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(super) const HEADER: &str = "idempotency-key";

/// Longest key.
const MAX_KEY: usize = 255;

/// Reads the key; it stands for this input to this application.
pub(super) fn read(
    headers: &HeaderMap,
    application: &Application,
    input: &Value,
) -> Result<Option<Idempotency>, ApiError> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim).filter(|key| (1..=MAX_KEY).contains(&key.len()));
    let Some(key) = key else {
        let words = format!("the {HEADER} header is not 1 to {MAX_KEY} visible ASCII characters");
        return Err(ApiError::BadRequest(words));
    };
    // Objects are written with sorted keys: the same input is the same text.
    let digest = hex::encode(Sha256::digest(format!("{}\n{input}", application.path)));
    Ok(Some(Idempotency { key: key.to_owned(), digest }))
}
