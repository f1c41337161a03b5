//! A file that an input names: by a URL of this server or another, or as the data URI that it is.

use crate::input::field::{Field, of_type};
use crate::input::fields::Fields;
use crate::routing::call::Call;
use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::read::DecoderReader;
use latentd_request::{MAX_INLINE_BYTES, Source};
use percent_encoding::percent_decode;
use std::io;
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

/// 64x64 black pixels, for fields beside an example that a server really has: a program that sends both gets an image, which a
/// URL that is not there would turn into a failed request.
pub(crate) const EXAMPLE_IMAGE: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAD0lEQVR42mNgGAWjgHwAAAJAAAHgTR1EAAAAAElFTkSuQmCC";

/// A file that must be there.
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) example: &'static str,
}

/// The problem of a value: its class, the remedy, and the limit that was exceeded.
pub(super) type Refusal = (&'static str, String, Option<u64>);

impl File {
    /// Where the file is, in a call that came to this server under the names that it knows.
    pub(crate) fn read(&self, fields: &mut Fields<'_>, call: &Call) -> Option<Source> {
        let before = fields.problem_count();
        let text = fields.text(self.name, None);
        if fields.problem_count() > before {
            return None;
        }
        of_field(fields, self.name, source(text, call))
    }
}

/// The file that the text of a field means; a text that means none is a problem of the field.
pub(super) fn of_field(fields: &mut Fields<'_>, name: &str, read: Result<Source, Refusal>) -> Option<Source> {
    match read {
        Ok(source) => Some(source),
        Err((kind, words, max)) => {
            let problem = fields.problem(name, kind, words);
            fields.refuse(max.into_iter().fold(problem, |problem, max| problem.with("max_size", max)));
            None
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

/// The file that a text means.
pub(super) fn source(text: &str, call: &Call) -> Result<Source, Refusal> {
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

/// What follows `data:`, as urllib reads it: everything may be percent-encoded, and base64 broken into lines.
fn inline(text: &str) -> Result<Source, Refusal> {
    let (head, data) =
        text.split_once(',').ok_or_else(|| no_file("The data URI has no comma before its data"))?;
    let bytes = percent_decode(data.trim().as_bytes());
    if !head.trim_end().to_ascii_lowercase().ends_with(";base64") {
        let bytes = at_most(bytes, MAX_INLINE_BYTES as usize)?;
        return Ok(Source::Inline(STANDARD.encode(bytes)));
    }
    // Four letters are three bytes, and the last of them may be padding.
    let most = (MAX_INLINE_BYTES as usize).div_ceil(3) * 4;
    // Nearly all are plain, and megabytes are looked through faster than they are read one by one.
    let is_plain = !['%', '\n', '\r', '\t', '\x0c', ' '].into_iter().any(|other| data.trim().contains(other));
    let mut letters = match is_plain {
        true if data.trim().len() > most => return Err(too_large()),
        true => data.trim().as_bytes().to_vec(),
        false => at_most(bytes.filter(|letter| !letter.is_ascii_whitespace()), most)?,
    };
    let mut decoded = DecoderReader::new(letters.as_slice(), &BASE64);
    // Looked through a piece at a time: the request keeps the letters, not the bytes.
    let size = io::copy(&mut decoded, &mut io::sink())
        .map_err(|error| no_file(&format!("The data URI is not base64: {error}")))?;
    if size > MAX_INLINE_BYTES {
        return Err(too_large());
    }
    letters.resize(letters.len().next_multiple_of(4), b'=');
    String::from_utf8(letters).map(Source::Inline).map_err(|_| no_file("The data URI is not base64"))
}

/// The bytes, unless there are more than so many.
fn at_most(bytes: impl Iterator<Item = u8>, most: usize) -> Result<Vec<u8>, Refusal> {
    let bytes: Vec<u8> = bytes.take(most + 1).collect();
    if bytes.len() > most { Err(too_large()) } else { Ok(bytes) }
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

    #[test]
    fn a_data_uri_is_read_as_pythons_urllib_reads_it() {
        for text in [
            "image/png;base64,aGk=",
            ";base64,aGk",
            "image/png;charset=x;BASE64,aGk= ",
            ";base64,a\r\n Gk\n",
            ";base64,%61%47k%3d%0A",
            ",hi",
            "image/png,%68i",
        ] {
            assert_eq!(inline(text), Ok(Source::Inline("aGk=".into())), "{text}");
        }
        for text in ["image/png;base64", ";base64,a?", ";base64,aG=k", ";base64,aGk%", ";base64,aGk=%80"] {
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
