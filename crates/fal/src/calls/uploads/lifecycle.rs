//! An upload's lifecycle settings: how long it is kept and who may fetch it.

use crate::input::value::from_json;
use crate::output::error::ApiError;
use axum::http::HeaderMap;
use serde_json::Value;
use std::time::Duration;

/// How long a file is to be kept.
pub(crate) const LIFECYCLE: &str = "x-fal-object-lifecycle";

/// The same for the files of a result.
pub(crate) const PREFERENCE: &str = "x-fal-object-lifecycle-preference";

/// Clients send the first with storage calls and the second with model calls, or both.
const HEADERS: [&str; 2] = [LIFECYCLE, PREFERENCE];

/// The lifetime and access that a sender asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    /// How long it is kept; `None`: for good.
    pub(crate) lifetime: Option<Duration>,
    /// How those without a key are answered; `None`: everybody may fetch it.
    pub(crate) access: Option<Access>,
}

/// How those who may not fetch a file are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// That there is no such file.
    Hide,
    /// That they may not.
    Forbid,
}

impl Access {
    const WORDS: [(&str, Self); 2] = [("hide", Self::Hide), ("forbid", Self::Forbid)];

    /// Reads a word of fal's.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, access)| *access)
    }

    /// fal's word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hide => "hide",
            Self::Forbid => "forbid",
        }
    }
}

/// Reads the wish.
pub(crate) fn wish(headers: &HeaderMap) -> Result<Wish, ApiError> {
    let Some((name, value)) = HEADERS.iter().find_map(|name| Some((name, headers.get(*name)?))) else {
        return Ok(Wish::default());
    };
    let wrong = |words: &str| ApiError::BadRequest(format!("the {name} header: {words}"));
    let Ok(Value::Object(wish)) = from_json(value.as_bytes()) else {
        return Err(wrong(r#"must be a JSON object such as {"expiration_duration_seconds": 3600}"#));
    };
    let access = access(wish.get("initial_acl").unwrap_or(&Value::Null)).map_err(&wrong)?;
    let lifetime = match wish.get("expiration_duration_seconds") {
        None | Some(Value::Null) => None,
        Some(seconds) => match seconds.as_u64() {
            Some(seconds) if seconds > 0 => Some(Duration::from_secs(seconds)),
            _ => return Err(wrong("expiration_duration_seconds must be a positive whole number")),
        },
    };
    Ok(Wish { lifetime, access })
}

/// The wish for the files of a result, which are open to whoever knows their URL.
pub(crate) fn lifetime_of_results(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let Wish { lifetime, access } = wish(headers)?;
    match access {
        None => Ok(lifetime),
        Some(access) => Err(ApiError::BadRequest(format!(
            "the {PREFERENCE} header: initial_acl {:?} is for files that are uploaded; those of results are open to whoever knows their URL",
            access.word()
        ))),
    }
}

/// A file that its sender wants hidden must not become public without a word.
fn access(acl: &Value) -> Result<Option<Access>, &'static str> {
    if acl["rules"].as_array().is_some_and(|rules| !rules.is_empty()) {
        return Err("initial_acl has rules, which name users of fal: this server knows none, only keys");
    }
    match &acl["default"] {
        Value::Null => Ok(None),
        Value::String(word) if word == "allow" => Ok(None),
        word => word
            .as_str()
            .and_then(Access::parse)
            .map(Some)
            .ok_or("initial_acl: default is hide, forbid or allow"),
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
            wish(&headers).map(|wish| wish.lifetime).map_err(|_| ())
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
            r#"{"initial_acl":{"default":"perhaps"}}"#,
            r#"{"initial_acl":{"default":5}}"#,
            r#"{"initial_acl":{"default":"allow","rules":[{"user":"x","decision":"hide"}]}}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(wish(&HeaderMap::new()).is_ok_and(|wish| wish == Wish::default()));
        let mut headers = HeaderMap::new();
        headers.insert(HEADERS[1], HeaderValue::from_static(r#"{"initial_acl":{"default":"hide"}}"#));
        assert!(wish(&headers).is_ok_and(|wish| wish.access == Some(Access::Hide)));
        assert!(lifetime_of_results(&headers).is_err());
    }
}
