//! The error responses of calls, one for each status.

use super::parts::{json, request_id_header, text};
use crate::output::error;
use crate::output::problem::{Problems, Refusal};
use axum::http::header;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{Header, RefOr};

/// Status, name and meaning of each.
const REFUSALS: &[(u16, &str, &str)] = &[
    (400, "BadRequest", "The call makes no sense; the body says why."),
    (401, "Unauthorized", "The call needs a key."),
    (
        403,
        "NotAdmin",
        "The call needs a key of an administrator or, for a file, any key, or comes from a web page that may not use the server.",
    ),
    (404, "NotFound", "There is no such thing."),
    (408, "TooSlow", "The body did not arrive in time."),
    (410, "Gone", "The upload URL was used already, or has expired."),
    (413, "TooLarge", "The body is too large."),
    (415, "Packed", "The body is packed: send it without Content-Encoding."),
    (416, "NoSuchRange", "The file has no such range."),
    (422, "Invalid", "The input is invalid; the body lists everything that is wrong."),
    (
        429,
        "TooMany",
        "The key has as many requests at work as it may, the queue is longer than asked for, or many uploads are unfinished.",
    ),
    (499, "Cancelled", "The request was cancelled."),
    (500, "Failed", "The request failed, or the server did."),
    (503, "Unavailable", "No new work is taken now, or nothing can be written."),
    (504, "NotStarted", "The request did not start in the time that its client gave."),
];

/// The name of a refusal in the document.
pub(crate) fn name(status: u16) -> &'static str {
    let row = REFUSALS.iter().find(|(code, ..)| *code == status);
    row.map(|(_, name, _)| *name).expect("every refusal that an entry names has a row")
}

/// All of them, by name.
pub(crate) fn responses() -> impl Iterator<Item = (String, RefOr<Response>)> {
    REFUSALS.iter().map(|(status, name, about)| ((*name).to_owned(), response(*status, about).into()))
}

fn response(status: u16, about: &str) -> ResponseBuilder {
    let body = match status {
        422 => json::<Problems>(about),
        _ => json::<Refusal>(about).header(error::ERROR_TYPE.as_str(), header_of("The class of the error.")),
    };
    let body = body.header(crate::output::request_id::REQUEST_ID.as_str(), request_id_header());
    match status {
        401 => body.header(header::WWW_AUTHENTICATE.as_str(), header_of("`Key`.")),
        416 => body.header(header::CONTENT_RANGE.as_str(), header_of("The size of the file.")),
        429 | 503 => body.header(header::RETRY_AFTER.as_str(), header_of("Seconds to wait.")),
        504 => body.header(error::TIMEOUT_TYPE.as_str(), header_of("`user`: the time was the client's.")),
        _ => body,
    }
}

fn header_of(about: &str) -> Header {
    HeaderBuilder::new().schema(Some(text())).description(Some(about)).build()
}
