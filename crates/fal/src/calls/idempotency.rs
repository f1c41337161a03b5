//! `Idempotency-Key`: a request that is sent again is the one that was sent before.

use crate::output::error::ApiError;
use crate::output::names::IDEMPOTENCY_KEY;
use crate::routing::target::Application;
use axum::http::HeaderMap;
use latentd_queue::queue::Idempotency;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io;

/// Longest key.
const MAX_KEY: usize = 255;

/// Reads the key; it stands for this input to this application.
pub(crate) fn read(
    headers: &HeaderMap,
    application: &Application,
    input: &Value,
) -> Result<Option<Idempotency>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim).filter(|key| (1..=MAX_KEY).contains(&key.len()));
    let Some(key) = key else {
        let words = format!("the {IDEMPOTENCY_KEY} header is not 1 to {MAX_KEY} visible ASCII characters");
        return Err(ApiError::BadRequest(words));
    };
    Ok(Some(Idempotency { key: key.to_owned(), digest: digest(application, input) }))
}

/// Objects are written with sorted keys: the same input is the same text. That may be long, and is never whole in memory.
fn digest(application: &Application, input: &Value) -> String {
    struct Hashed(Sha256);
    impl io::Write for Hashed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashed = Hashed(Sha256::new_with_prefix(format!("{}\n", application.path)));
    serde_json::to_writer(&mut hashed, input).expect("a hash takes everything");
    hex::encode(hashed.0.finalize())
}
