//! The values of the named segments in the path of a call.

use crate::docs;
use crate::output::error::ApiError;
use crate::playground;
use crate::routing::target::Application;
use latentd_queue::queue::RequestId;
use latentd_queue::storage::FileKey;
use percent_encoding::percent_decode_str;
use std::str::FromStr;

/// The values of a path.
pub(crate) struct Parameters<'a> {
    path: &'a str,
    template: &'static str,
    /// The segments of the path that the template describes.
    segments: &'a [&'a str],
}

impl<'a> Parameters<'a> {
    /// The values of `segments`, if they are as `template` says. `path` is the whole path, for errors.
    pub(crate) fn of(path: &'a str, template: &'static str, segments: &'a [&'a str]) -> Option<Self> {
        let mut pattern = pieces(template);
        let mut found = segments.iter();
        loop {
            match (pattern.next(), found.next()) {
                (None, None) => return Some(Self { path, template, segments }),
                (Some(name), Some(_)) if in_braces(name).is_some() => {}
                (Some(piece), Some(segment)) if piece == *segment => {}
                _ => return None,
            }
        }
    }

    /// The values of a route whose path is an application's, however many segments that has.
    pub(crate) fn of_application(path: &'a str, segments: &'a [&'a str]) -> Self {
        Self { path, template: "", segments }
    }

    fn value(&self, name: &str) -> &'a str {
        let at = pieces(self.template).position(|piece| in_braces(piece) == Some(name));
        at.and_then(|at| self.segments.get(at)).copied().unwrap_or_default()
    }

    /// A value that is read; a path with another is not the route's.
    pub(crate) fn parse<T: FromStr>(&self, name: &str) -> Result<T, ApiError> {
        self.value(name).parse().map_err(|_| self.unknown())
    }

    pub(crate) fn request_id(&self) -> Result<RequestId, ApiError> {
        self.value("request_id").parse().map_err(|_| ApiError::UnknownRequest)
    }

    pub(crate) fn file_key(&self) -> Result<FileKey, ApiError> {
        FileKey::parse(self.value("file")).ok_or_else(|| self.unknown())
    }

    pub(crate) fn docs_asset(&self) -> Result<&'static docs::Asset, ApiError> {
        docs::Asset::of(self.value("name")).ok_or_else(|| self.unknown())
    }

    pub(crate) fn page_asset(&self) -> Result<&'static playground::Asset, ApiError> {
        playground::at(self.segments).ok_or_else(|| self.unknown())
    }

    /// The name of a model, which may be that of its owner, a slash and its own.
    pub(crate) fn model(&self) -> Result<String, ApiError> {
        let names = ["owner", "model"].map(|name| self.value(name));
        self.decoded(&names.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join("/"))
    }

    pub(crate) fn key_id(&self) -> Result<String, ApiError> {
        let id = self.decoded(self.value("key_id"))?;
        // PostgreSQL takes no text with a NUL.
        if id.contains('\0') { Err(self.unknown()) } else { Ok(id) }
    }

    pub(crate) fn application(&self) -> Result<Application, ApiError> {
        Application::of(self.segments).ok_or_else(|| self.unknown())
    }

    /// The application whose path ends in `stream`.
    pub(crate) fn streamed(&self) -> Result<Application, ApiError> {
        self.application()?.streamed().ok_or_else(|| self.unknown())
    }

    fn decoded(&self, value: &str) -> Result<String, ApiError> {
        let decoded = percent_decode_str(value).decode_utf8().map_err(|_| self.unknown())?;
        Ok(decoded.into_owned())
    }

    fn unknown(&self) -> ApiError {
        ApiError::UnknownPath(self.path.to_owned())
    }
}

fn pieces(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter(|piece| !piece.is_empty())
}

/// The name in braces that stands for a value.
fn in_braces(piece: &str) -> Option<&str> {
    piece.strip_prefix('{')?.strip_suffix('}')
}
