//! The header that names the request on every response.

use axum::http::{HeaderName, HeaderValue, Response};

/// Names the request on every answer; clients report it as theirs.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-fal-request-id");

/// Every answer has an id: that of its request, or else one of its own.
pub(crate) fn name_answer<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().entry(REQUEST_ID).or_insert_with(|| id_header(uuid::Uuid::new_v4()));
    response
}

pub(crate) fn id_header(id: impl std::fmt::Display) -> HeaderValue {
    HeaderValue::try_from(id.to_string()).expect("an id is hex digits and dashes")
}
