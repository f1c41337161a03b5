//! `GET /files/{name}`: finished images and clients' files, public to whoever knows the name, unless their sender
//! wished otherwise.

use crate::access::auth;
use crate::calls::uploads::{Access, content_type};
use crate::output::error::ApiError;
use crate::state::Api;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use latentd_queue::queue::{FileLife, Uploaded};
use latentd_queue::storage::{FileKey, Span};
use std::fmt::Write;

/// A file never changes under its name; fal's own value, in seconds.
const MAX_AGE: u64 = 5_184_000;

/// Nothing inside a file may run, should a browser ever take it for a page.
const POLICY: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'");

/// For whom copies of a file may be kept on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    Everybody,
    Client,
    Nobody,
}

/// Where a file lies and how it is shown.
struct Shown {
    object: FileKey,
    content_type: HeaderValue,
    max_age: u64,
    copies: Copies,
    disposition: Option<HeaderValue>,
}

/// Serves a file or one range of it.
pub(crate) async fn get(api: &Api, key: &FileKey, headers: &HeaderMap) -> Result<Response, ApiError> {
    let missing = || ApiError::UnknownPath(format!("/files/{}", key.as_str()));
    let shown = match api.queue.uploaded(key.as_str()).await? {
        Some(file) => {
            let is_owner = !api.keys.is_open() && auth::by_key(api, headers).is_ok();
            match file.access.as_deref().map(Access::parse).filter(|_| !is_owner) {
                None => {}
                Some(Some(Access::Forbid)) => return Err(ApiError::FileForbidden),
                Some(Some(Access::Hide) | None) => return Err(missing()),
            }
            Shown::of_upload(&file).ok_or_else(missing)?
        }
        None => {
            let life = api.queue.file_life(key.as_str()).await?.unwrap_or(FileLife::Kept);
            Shown::of_image(key, life).ok_or_else(missing)?
        }
    };
    let shown = shown.isolated(api.isolate_keys);
    // A key is never reused, so it serves as the entity tag too.
    let etag = HeaderValue::try_from(format!("\"{}\"", key.as_str())).expect("a key is a header value");
    let has_it = |name| headers.get(name).is_some_and(|sent| sent == etag);
    if has_it(header::IF_NONE_MATCH) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        shown.describe(response.headers_mut(), etag);
        return Ok(response);
    }
    let same = !headers.contains_key(header::IF_RANGE) || has_it(header::IF_RANGE);
    let span =
        headers.get(header::RANGE).filter(|_| same).and_then(|value| value.to_str().ok()).and_then(span);
    let file = api.storage.get(&shown.object, span).await?.ok_or_else(missing)?;
    let Some((bytes, range)) = file.part else { return Err(ApiError::NoSuchRange(file.size)) };
    let status = if span.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = (status, Body::from_stream(bytes)).into_response();
    let out = response.headers_mut();
    shown.describe(out, etag);
    out.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if span.is_some() {
        let range = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), file.size);
        out.insert(header::CONTENT_RANGE, HeaderValue::try_from(range).expect("digits are a header value"));
    }
    Ok(response)
}

impl Shown {
    fn of_image(key: &FileKey, life: FileLife) -> Option<Self> {
        let max_age = match life {
            FileLife::Kept => MAX_AGE,
            FileLife::Ends(left) => left.as_secs().min(MAX_AGE),
            FileLife::Over => return None,
        };
        let content_type = HeaderValue::from_static(key.image_type()?);
        Some(Self {
            object: key.clone(),
            content_type,
            max_age,
            copies: Copies::Everybody,
            disposition: None,
        })
    }

    fn of_upload(file: &Uploaded) -> Option<Self> {
        let max_age = file.remaining.map_or(MAX_AGE, |left| left.as_secs().min(MAX_AGE));
        // Early versions kept whatever they were given.
        let content_type = content_type::checked(Some(&file.content_type));
        Some(Self {
            object: FileKey::parse(&file.object)?,
            disposition: Some(disposition(&content_type, file.file_name.as_deref())),
            content_type: HeaderValue::try_from(content_type).ok()?,
            max_age,
            copies: if file.access.is_none() { Copies::Everybody } else { Copies::Nobody },
        })
    }

    /// Where keys are isolated, a cache must not answer for another key.
    fn isolated(self, is_isolated: bool) -> Self {
        match self.copies {
            Copies::Everybody if is_isolated => Self { copies: Copies::Client, ..self },
            _ => self,
        }
    }

    fn describe(&self, out: &mut HeaderMap, etag: HeaderValue) {
        let cache = match self.copies {
            Copies::Everybody => {
                HeaderValue::try_from(format!("public, max-age={}, immutable", self.max_age))
            }
            Copies::Client => HeaderValue::try_from(format!("private, max-age={}, immutable", self.max_age)),
            Copies::Nobody => HeaderValue::try_from("private, no-store"),
        };
        out.insert(header::CACHE_CONTROL, cache.expect("words and digits are a header value"));
        out.insert(header::ETAG, etag);
        out.insert(header::CONTENT_TYPE, self.content_type.clone());
        out.insert(header::CONTENT_SECURITY_POLICY, POLICY);
        out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        out.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        );
        if let Some(disposition) = &self.disposition {
            out.insert(header::CONTENT_DISPOSITION, disposition.clone());
        }
    }
}

/// Known images, sound and video are shown; whatever else there is, a browser saves.
fn disposition(content_type: &str, file_name: Option<&str>) -> HeaderValue {
    let mut text = String::from(if content_type::is_shown(content_type) { "inline" } else { "attachment" });
    if let Some(name) = file_name {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                true => text.push(char::from(byte)),
                false => write!(text, "%{byte:02X}").expect("a string takes everything"),
            }
        }
    }
    HeaderValue::try_from(text).expect("letters, digits and percent signs are a header value")
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

    #[test]
    fn what_could_run_is_saved_and_not_shown() {
        assert_eq!(disposition("image/png", Some("a b\".png")), "inline; filename*=UTF-8''a%20b%22.png");
        for kind in ["text/html", "text/plain", "image/svg+xml", "application/xml", "IMAGE/SVG+XML; a=b"] {
            assert_eq!(disposition(kind, None), "attachment", "{kind}");
        }
    }
}
