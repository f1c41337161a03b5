//! `GET /files/{name}`: finished pictures, public to whoever knows the name.

use super::Api;
use super::error::ApiError;
use crate::storage::{FileKey, Span};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file never changes under its name; fal's own value.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=5184000, immutable");

/// Nothing inside a file may run, should a browser ever take it for a page.
const POLICY: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'");

/// Serves a file or one range of it.
pub(super) async fn get(api: &Api, key: &FileKey, headers: &HeaderMap) -> Result<Response, ApiError> {
    let span = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).and_then(span);
    let file = match api.storage.get(key, span).await? {
        Some(file) => file,
        None => return Err(ApiError::UnknownPath(format!("/files/{}", key.as_str()))),
    };
    let Some((bytes, range)) = file.part else { return Err(ApiError::NoSuchRange(file.size)) };
    let status = if span.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = (status, bytes).into_response();
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(key.content_type()));
    out.insert(header::CACHE_CONTROL, CACHE);
    out.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    out.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if span.is_some() {
        let range = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), file.size);
        out.insert(header::CONTENT_RANGE, HeaderValue::try_from(range).expect("digits are a header value"));
    }
    Ok(response)
}

/// Reads one range; anything else is ignored, as the standard allows.
fn span(value: &str) -> Option<Span> {
    let (first, last) = value.strip_prefix("bytes=")?.trim().split_once('-')?;
    match (first, last) {
        ("", last) => Some(Span::Last(last.parse().ok()?)),
        (first, "") => Some(Span::From(first.parse().ok()?)),
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some(Span::Within(first, last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_and_the_rest_ignored() {
        assert_eq!(span("bytes=0-9"), Some(Span::Within(0, 9)));
        assert_eq!(span("bytes=5-"), Some(Span::From(5)));
        assert_eq!(span("bytes=-5"), Some(Span::Last(5)));
        for ignored in ["bytes=", "bytes=9-1", "bytes=1-2,4-5", "items=1-2", "bytes=a-b", "bytes=-"] {
            assert_eq!(span(ignored), None, "{ignored}");
        }
    }
}
