//! The handlers of fal's API, one call a file.

pub(crate) mod admin;
pub(crate) mod early_response;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod idempotency;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod payloads;
pub(crate) mod request_options;
pub(crate) mod run;
pub(crate) mod run_stream;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod submit;
pub(crate) mod uploads;
pub(crate) mod wait;
pub(crate) mod webhook;
