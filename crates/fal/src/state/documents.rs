//! OpenAPI documents, serialised once and cut where the URL of this server belongs.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use utoipa::openapi::OpenApi;

/// A placeholder for the URL at which a client reached the server.
pub(crate) const ORIGIN: &str = "http://origin-of-this-server.invalid";

/// Documents that are kept: there are fewer, but an id has more than one spelling.
const MAX_KEPT: usize = 32;

/// The documents that were asked for, by the endpoint that they are of; `None` is the whole server.
#[derive(Default)]
pub struct Documents(Mutex<HashMap<Option<String>, Arc<Template>>>);

/// A document, cut where the origin belongs.
struct Template {
    pieces: Vec<Bytes>,
}

impl Documents {
    /// Answers with a document; `write` makes it with [`ORIGIN`] for the origin.
    pub(crate) fn answer<E>(
        &self,
        id: Option<&str>,
        origin: &str,
        write: impl FnOnce() -> Result<OpenApi, E>,
    ) -> Result<Response, E> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = id.map(str::to_owned);
        let kept = lock().get(&id).cloned();
        let template = match kept {
            Some(template) => template,
            None => {
                let template = Arc::new(Template::of(&write()?));
                let mut all = lock();
                if all.len() < MAX_KEPT {
                    all.insert(id, template.clone());
                }
                template
            }
        };
        Ok(template.response(origin))
    }
}

impl Template {
    fn of(document: &OpenApi) -> Self {
        let text = serde_json::to_string(document).expect("a document is JSON");
        Self { pieces: text.split(ORIGIN).map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect() }
    }

    fn response(&self, origin: &str) -> Response {
        let quoted = serde_json::Value::from(origin).to_string();
        let origin = Bytes::copy_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
        let mut parts: Vec<Bytes> =
            self.pieces.iter().flat_map(|piece| [piece.clone(), origin.clone()]).collect();
        parts.pop();
        let length: usize = parts.iter().map(Bytes::len).sum();
        let body = Body::from_stream(stream::iter(parts.into_iter().map(Ok::<_, Infallible>)));
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CONTENT_LENGTH, HeaderValue::from(length)),
        ];
        (headers, body).into_response()
    }
}
