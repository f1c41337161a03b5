//! JSON as Python's `json` writes it, and errors that name the field.

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::borrow::Cow;

/// Parses a file's bytes.
///
/// # Errors
/// What is wrong, and in which field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = standard(bytes);
    let mut deserializer = serde_json::Deserializer::from_slice(&text);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(in_field)?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(parsed)
}

/// A value that was parsed before, as something in particular.
///
/// # Errors
/// What is wrong, and in which field.
pub(crate) fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(in_field)
}

fn in_field(error: serde_path_to_error::Error<serde_json::Error>) -> String {
    let path = error.path().to_string();
    let inner = error.into_inner();
    if path == "." { inner.to_string() } else { format!("{path}: {inner}") }
}

/// Python writes numbers that JSON has not, such as the `-Infinity` in the configs of DPM schedulers: null in their place.
fn standard(bytes: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    if !has(b"Infinity") && !has(b"NaN") {
        return Cow::Borrowed(bytes);
    }
    let (mut out, mut rest, mut in_string) = (Vec::with_capacity(bytes.len()), bytes, false);
    while let [first, others @ ..] = rest {
        let word = WORDS.iter().find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = word {
            out.extend_from_slice(b"null");
            rest = &rest[word.len()..];
            continue;
        }
        out.push(*first);
        rest = others;
        match (first, others) {
            (b'"', _) => in_string = !in_string,
            (b'\\', [escaped, others @ ..]) if in_string => {
                out.push(*escaped);
                rest = others;
            }
            _ => {}
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_python_are_no_errors() {
        let value: Value =
            parse(br#"{"a": -Infinity, "b": [NaN, Infinity], "c": "-Infinity \" NaN", "d": 1}"#)
                .expect("JSON");
        assert_eq!(value, serde_json::json!({"a": null, "b": [null, null], "c": "-Infinity \" NaN", "d": 1}));
    }

    #[test]
    fn errors_name_the_field() {
        #[derive(Debug, serde::Deserialize)]
        struct Config {
            _layers: usize,
        }
        let error = parse::<Config>(br#"{"_layers": "two"}"#).expect_err("no number");
        assert!(error.starts_with("_layers: invalid type: string \"two\""), "{error}");
        let error = typed::<Config>(&serde_json::json!({"_layers": -1})).expect_err("no size");
        assert!(error.starts_with("_layers: invalid value"), "{error}");
        assert!(parse::<Value>(b"{} {}").is_err(), "something follows");
    }
}
