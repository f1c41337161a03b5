//! How long a file is to be kept, as its sender wishes.

use crate::http::error::ApiError;
use crate::http::value::from_json;
use axum::http::HeaderMap;
use serde_json::Value;
use std::time::Duration;

/// Says how long a file is to be kept.
pub(in crate::http) const LIFECYCLE: &str = "x-fal-object-lifecycle";

/// The same for the files of a result.
pub(in crate::http) const PREFERENCE: &str = "x-fal-object-lifecycle-preference";

/// Clients send the first with storage calls and the second with model calls, or both.
const HEADERS: [&str; 2] = [LIFECYCLE, PREFERENCE];

/// Reads the wish; `None`: for good.
pub(in crate::http) fn lifetime(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Some((name, value)) = HEADERS.iter().find_map(|name| Some((name, headers.get(*name)?))) else {
        return Ok(None);
    };
    let wrong = |words: &str| ApiError::BadRequest(format!("the {name} header: {words}"));
    let Ok(Value::Object(wish)) = from_json(value.as_bytes()) else {
        return Err(wrong(r#"must be a JSON object such as {"expiration_duration_seconds": 3600}"#));
    };
    check_acl(wish.get("initial_acl").unwrap_or(&Value::Null)).map_err(&wrong)?;
    match wish.get("expiration_duration_seconds") {
        None | Some(Value::Null) => Ok(None),
        Some(seconds) => match seconds.as_u64() {
            Some(seconds) if seconds > 0 => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(wrong("expiration_duration_seconds must be a positive whole number")),
        },
    }
}

/// A file that its sender wants hidden must not become public without a word.
fn check_acl(acl: &Value) -> Result<(), &'static str> {
    let default_is_open = matches!(acl["default"].as_str(), None | Some("allow"));
    let has_rules = acl["rules"].as_array().is_some_and(|rules| !rules.is_empty());
    match default_is_open && !has_rules {
        true => Ok(()),
        false => Err("initial_acl is not supported here: files are open to whoever knows their URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_wish_is_read_or_refused() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADERS[0], HeaderValue::from_static(text));
            lifetime(&headers).map_err(|_| ())
        };
        assert_eq!(read(r#"{"expiration_duration_seconds": 60}"#), Ok(Some(Duration::from_secs(60))));
        for forever in
            ["{}", r#"{"expiration_duration_seconds": null}"#, r#"{"initial_acl":{"default":"allow"}}"#]
        {
            assert_eq!(read(forever), Ok(None), "{forever}");
        }
        for wrong in [
            "",
            "60",
            "null",
            "[]",
            r#"{"expiration_duration_seconds": -1}"#,
            r#"{"expiration_duration_seconds": "1d"}"#,
            r#"{"initial_acl":{"default":"forbid"}}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(lifetime(&HeaderMap::new()).is_ok_and(|life| life.is_none()));
    }
}
