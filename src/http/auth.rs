//! Does the call carry a key that opens the API?

use super::error::ApiError;
use crate::config::KeyHash;
use axum::http::{HeaderMap, header};
use subtle::{Choice, ConstantTimeEq};

/// Passes when no key is configured, or when one of them is sent as `Key …` or `Bearer …`.
pub(super) fn check(keys: &[KeyHash], headers: &HeaderMap) -> Result<(), ApiError> {
    if keys.is_empty() {
        return Ok(());
    }
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, key) = sent.split_once(' ').unwrap_or_default();
    let known_scheme = scheme.eq_ignore_ascii_case("key") || scheme.eq_ignore_ascii_case("bearer");
    let opens = opens(keys, key.trim());
    if known_scheme && opens { Ok(()) } else { Err(ApiError::Unauthorized) }
}

/// Compares hashes of all keys, each in constant time, so that time tells nothing.
fn opens(keys: &[KeyHash], key: &str) -> bool {
    let sent = KeyHash::of(key);
    let found = keys.iter().fold(Choice::from(0), |found, known| found | known.0.ct_eq(&sent.0));
    found.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_a_configured_key_opens() {
        let keys = [KeyHash::of("id:one"), KeyHash::of("two")];
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            check(&keys, &headers).is_ok()
        };
        assert!(with("Key id:one") && with("Bearer two") && with("key two"));
        for wrong in ["Key id:on", "Key", "Basic two", "two", "Key ", ""] {
            assert!(!with(wrong), "{wrong}");
        }
        assert!(check(&keys, &HeaderMap::new()).is_err());
        assert!(check(&[], &HeaderMap::new()).is_ok());
    }
}
