//! The handshake that turns a call into a web socket (RFC 6455, section 4.2).

use crate::output::error::ApiError;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// The constant that the standard appends to a client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The only version there is.
const VERSION: &str = "13";

/// What answers the key of a client that asks for a web socket.
pub(crate) fn answer(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let wrong = |words: &str| ApiError::BadRequest(words.into());
    if !lists(headers, &header::CONNECTION, "upgrade") {
        return Err(wrong("the connection header does not say `upgrade`"));
    }
    if !lists(headers, &header::SEC_WEBSOCKET_VERSION, VERSION) {
        return Err(wrong("the sec-websocket-version header is not 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| wrong("the sec-websocket-key header is missing"))?;
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(GUID);
    Ok(HeaderValue::try_from(STANDARD.encode(digest.finish())).expect("base64 is a header value"))
}

/// Grants it.
pub(crate) fn response(key: HeaderValue) -> Response {
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, Body::empty()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    response
}

fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the standard.
    #[test]
    fn a_key_is_answered_as_the_standard_says() {
        let mut headers = HeaderMap::new();
        let fields = [
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in fields {
            assert!(answer(&headers).is_err(), "without {name}");
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(answer(&headers).expect("an answer"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
