//! A file that an input names: by a URL of this server or another, or as the data URI that it is.

use crate::http::call::Call;
use crate::http::field::{Field, of_type};
use crate::http::fields::Fields;
use crate::request::{MAX_INLINE_BYTES, Source};
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::read::DecoderReader;
use std::{io, iter};
use url::Url;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Schema, Type};

/// Bytes of the longest URL that is kept.
const MAX_URL: usize = 8192;

/// Padding is what programs forget.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A file that must be there.
pub(in crate::http) struct File {
    pub(in crate::http) name: &'static str,
    pub(super) about: &'static str,
    pub(super) example: &'static str,
}

/// What is wrong with a value: the class, what to change, and the limit that was passed.
type Refusal = (&'static str, String, Option<u64>);

impl File {
    /// Where the file is, in a call that came to this server under the names that it knows.
    pub(super) fn read(&self, fields: &mut Fields<'_>, call: &Call) -> Option<Source> {
        let before = fields.problem_count();
        let text = fields.text(self.name, None);
        if fields.problem_count() > before {
            return None;
        }
        match source(text, call) {
            Ok(source) => Some(source),
            Err((kind, words, max)) => {
                let problem = fields.problem(self.name, kind, words);
                fields.refuse(max.into_iter().fold(problem, |problem, max| problem.with("max_size", max)));
                None
            }
        }
    }
}

impl Field for File {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> RefOr<Schema> {
        of_type(Type::String, self.about).examples([self.example]).into()
    }

    fn is_required(&self) -> bool {
        true
    }
}

fn source(text: &str, call: &Call) -> Result<Source, Refusal> {
    let text = text.trim();
    if text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return inline(&text[5..]);
    }
    let wants = "Input should be an http:// or https:// URL, or a data URI";
    if text.len() > MAX_URL {
        return Err(no_file(&format!("The URL is longer than {MAX_URL} bytes")));
    }
    let url = Url::parse(text).map_err(|_| no_file(wants))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(no_file(wants));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(no_file("The URL holds a user name or password; put a token into its query"));
    }
    match call.own_file(&url) {
        None => Ok(Source::Remote(url.into())),
        Some(Some(key)) => Ok(Source::Stored(key.as_str().to_owned())),
        Some(None) => Err(no_file("The URL names no file of this server")),
    }
}

/// What follows `data:`.
fn inline(text: &str) -> Result<Source, Refusal> {
    let (head, data) =
        text.split_once(',').ok_or_else(|| no_file("The data URI has no comma before its data"))?;
    if !head.trim_end().to_ascii_lowercase().ends_with(";base64") {
        return Err(no_file("The data URI is not base64: it should begin as data:image/png;base64,"));
    }
    let data = data.trim();
    // Four letters are three bytes.
    if data.len() as u64 / 4 * 3 > MAX_INLINE_BYTES + 3 {
        return Err(too_large());
    }
    // Looked through a piece at a time: the request keeps the letters, not the bytes.
    let mut bytes = DecoderReader::new(data.as_bytes(), &BASE64);
    let size = io::copy(&mut bytes, &mut io::sink())
        .map_err(|error| no_file(&format!("The data URI is not base64: {error}")))?;
    if size > MAX_INLINE_BYTES {
        return Err(too_large());
    }
    let mut letters = String::with_capacity(data.len().next_multiple_of(4));
    letters.push_str(data);
    letters.extend(iter::repeat_n('=', data.len().next_multiple_of(4) - data.len()));
    Ok(Source::Inline(letters))
}

fn no_file(words: &str) -> Refusal {
    ("file_download_error", words.to_owned(), None)
}

fn too_large() -> Refusal {
    let words = format!("The file is larger than {MAX_INLINE_BYTES} bytes: upload it and send its URL");
    ("file_too_large", words, Some(MAX_INLINE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_data_uri_is_base64_padded_or_not() {
        for text in ["image/png;base64,aGk=", ";base64,aGk", "image/png;charset=x;BASE64,aGk= "] {
            assert_eq!(inline(text), Ok(Source::Inline("aGk=".into())), "{text}");
        }
        for text in ["image/png;base64", "image/png,aGk=", ";base64,a?", "base64,aGk="] {
            assert!(matches!(inline(text), Err(("file_download_error", _, None))), "{text}");
        }
    }

    #[test]
    fn what_is_inside_is_bounded() {
        let max = MAX_INLINE_BYTES as usize;
        let uri = |bytes: usize| format!(";base64,{}", STANDARD.encode(vec![0; bytes]));
        assert!(inline(&uri(max)).is_ok());
        for bytes in [max + 1, max + 9] {
            assert!(matches!(inline(&uri(bytes)), Err(("file_too_large", _, Some(MAX_INLINE_BYTES)))));
        }
    }
}
