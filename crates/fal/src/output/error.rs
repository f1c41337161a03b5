//! Every error of the API, and its response.

mod causes;
mod failures;

pub(crate) use failures::{failure_answer, failure_response, failure_words};

use crate::output::barred::Barred;
use crate::output::names::IDEMPOTENCY_KEY;
use crate::output::problem::{Problem, Problems, Refusal};
use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use latentd_queue::fault::Fault;
use serde_json::{Value, json};

/// Machine-readable class of an error, in a header beside the body.
pub(crate) const ERROR_TYPE: HeaderName = HeaderName::from_static("x-fal-error-type");

/// Who set the timeout that was reached.
pub(crate) const TIMEOUT_TYPE: HeaderName = HeaderName::from_static("x-fal-request-timeout-type");

/// What a request cost; only sent, never charged.
pub(crate) const BILLABLE_UNITS: HeaderName = HeaderName::from_static("x-fal-billable-units");

/// May the same request succeed another time? fal's newer name for it, and the older one.
const NEEDS_RETRY: HeaderName = HeaderName::from_static("x-fal-needs-retry");
const RETRYABLE: HeaderName = HeaderName::from_static("x-fal-retryable");

/// Seconds after which a refused client may try again.
pub(crate) const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

/// The class of a refusal to take new work.
const NO_RUNNER: &str = "runner_scheduling_failure";

const UNAUTHORIZED: &str =
    "Authentication is required to access this application: send `Authorization: Key …`";

/// The message of errors whose cause is logged only.
pub(crate) const INTERNAL: &str = "internal error: see the server's log";

/// The message where a disk is full.
const NO_ROOM: &str = "the server's disk is full: nothing new is taken until there is room";

/// The message where the storage limit is reached.
const STORAGE_FULL: &str =
    "the server stores as many files as it may: nothing new is taken until some of them can be deleted";

/// The message where the database is locked or cannot be written.
const UNAVAILABLE: &str = "the server cannot write now: try again";

const STARTING: &str = "the server starts, and waits for its database or its storage of files: try again";

/// The message for a result that is not to be kept.
pub(crate) const ERASED: &str = "The result of this request is not kept any longer";

const NOT_ADMIN: &str =
    "This needs the key of an administrator: `latentd keys create --scope admin` makes one";

/// Why a call was not served.
#[derive(Debug)]
pub(crate) enum ApiError {
    Unauthorized,
    NotAdmin,
    /// Its sender lets only holders of a key fetch the file.
    FileForbidden,
    /// By the guard of servers without keys.
    Barred(Barred),
    UnknownPath(String),
    /// What was not found, and the endpoints that are served.
    UnknownEndpoint {
        what: String,
        served: Vec<String>,
    },
    /// What was not found, and the model that would answer there.
    NotServed {
        what: String,
        model: String,
    },
    UnknownRequest,
    UnknownCancel,
    UnknownKey,
    StillInProgress,
    Erased,
    /// The methods that are.
    MethodNotAllowed(String),
    BadRequest(String),
    Invalid(Vec<Problem>),
    BodyTooLarge(usize),
    UploadTooLarge(u64),
    /// So many uploads are announced and not sent.
    TooManyUploads(u64),
    Gone(&'static str),
    BodyTooSlow,
    Encoded,
    Closing,
    /// The server has started, and its database or its storage of files is away.
    Starting,
    /// Others send so much that there is no memory for this.
    Busy,
    QueueFull(u64),
    LongerThanAsked(u64),
    IdempotencyKeyTaken,
    KeyBusy(u32),
    NoSuchRange(u64),
    /// A disk has less room than is kept free; which one is logged only.
    NoRoom(String),
    /// As many files are stored as may be; how many is logged only.
    StorageFull(String),
    /// The machine cannot do it now; why is logged only.
    Unavailable(String),
    /// Logged only.
    Internal(String),
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, class, body) = self.answer();
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(class) = class {
            headers.insert(ERROR_TYPE, HeaderValue::from_static(class));
        }
        self.add_headers(headers);
        response
    }
}

impl ApiError {
    /// The error for a failure below: of the machine, or of this program.
    fn of<E: Fault + std::fmt::Display>(error: &E) -> Self {
        match error.is_machines() {
            true => Self::Unavailable(error.to_string()),
            false => Self::Internal(error.to_string()),
        }
    }

    /// Status, class and body.
    pub(crate) fn answer(&self) -> (StatusCode, Option<&'static str>, Value) {
        use StatusCode as S;
        match self {
            Self::Internal(message) => tracing::error!("{message}"),
            Self::NoRoom(message) | Self::StorageFull(message) | Self::Unavailable(message) => {
                tracing::warn!("refused: {message}")
            }
            _ => {}
        }
        let body = |status, class: Option<&'static str>, detail: String| {
            (status, class, json!(Refusal { status: None, detail: Some(detail), error_type: class }))
        };
        let bare = |status, detail: String| body(status, None, detail);
        let plain = |status, class: &'static str, detail: String| body(status, Some(class), detail);
        let no_request = |detail: Option<&str>| {
            let detail = detail.map(str::to_owned);
            (S::NOT_FOUND, None, json!(Refusal { status: Some("NOT_FOUND"), detail, error_type: None }))
        };
        match self {
            Self::Unauthorized => bare(S::UNAUTHORIZED, UNAUTHORIZED.into()),
            Self::NotAdmin => bare(S::FORBIDDEN, NOT_ADMIN.into()),
            Self::FileForbidden => bare(S::FORBIDDEN, "Only a key of this server opens this file".into()),
            Self::Barred(barred) => bare(barred.status(), barred.to_string()),
            Self::UnknownEndpoint { what, served } => {
                bare(S::NOT_FOUND, format!("{what} not found: this server has {}", served.join(", ")))
            }
            Self::UnknownPath(path) => bare(S::NOT_FOUND, format!("Path {path} not found")),
            Self::NotServed { what, model } => {
                let hint = format!(
                    "start the server with `--model {model}` (beside others, if you like) to serve it"
                );
                bare(S::NOT_FOUND, format!("{what} not found: {hint}"))
            }
            Self::UnknownRequest => no_request(Some("Request not found")),
            Self::UnknownKey => bare(S::NOT_FOUND, "There is no such key".into()),
            Self::UnknownCancel => no_request(None),
            Self::StillInProgress => bare(S::BAD_REQUEST, "Request is still in progress".into()),
            Self::Erased => bare(S::NOT_FOUND, ERASED.into()),
            Self::MethodNotAllowed(_) => bare(S::METHOD_NOT_ALLOWED, "Method Not Allowed".into()),
            Self::BadRequest(detail) => plain(S::BAD_REQUEST, "bad_request", detail.clone()),
            Self::Invalid(problems) => {
                (S::UNPROCESSABLE_ENTITY, None, json!(Problems { detail: problems.clone() }))
            }
            Self::BodyTooLarge(max) => {
                plain(S::PAYLOAD_TOO_LARGE, "bad_request", format!("the body is larger than {max} bytes"))
            }
            Self::UploadTooLarge(max) => {
                let detail = format!("the file is larger than {max} bytes, the most this server takes");
                plain(S::PAYLOAD_TOO_LARGE, "bad_request", detail)
            }
            Self::TooManyUploads(open) => {
                let detail =
                    format!("{open} uploads were announced and not sent: finish them, or try again later");
                plain(S::TOO_MANY_REQUESTS, "bad_request", detail)
            }
            Self::Gone(detail) => plain(S::GONE, "bad_request", (*detail).into()),
            Self::Encoded => {
                let detail = "the body has a content-encoding: send it as it is";
                plain(S::UNSUPPORTED_MEDIA_TYPE, "bad_request", detail.into())
            }
            Self::BodyTooSlow => {
                plain(S::REQUEST_TIMEOUT, "bad_request", "the body did not arrive in time".into())
            }
            Self::Closing => plain(S::SERVICE_UNAVAILABLE, NO_RUNNER, "the server is stopping".into()),
            Self::Starting => plain(S::SERVICE_UNAVAILABLE, NO_RUNNER, STARTING.into()),
            Self::Busy => {
                let detail = "the server holds as much input as it may: send this again later";
                plain(S::SERVICE_UNAVAILABLE, NO_RUNNER, detail.into())
            }
            Self::QueueFull(waiting) => plain(
                S::SERVICE_UNAVAILABLE,
                NO_RUNNER,
                format!("the queue is full: {waiting} requests wait"),
            ),
            Self::LongerThanAsked(waiting) => {
                let detail = format!("the queue is longer than asked for: {waiting} requests wait");
                plain(S::TOO_MANY_REQUESTS, "bad_request", detail)
            }
            Self::IdempotencyKeyTaken => {
                let words = "Input should be that which this key was sent with before: give every input a key of its own";
                let problem = Problem::in_header(IDEMPOTENCY_KEY, "idempotency_key_taken", words);
                (S::UNPROCESSABLE_ENTITY, None, json!(Problems { detail: vec![problem] }))
            }
            Self::KeyBusy(limit) => {
                let detail = format!(
                    "the key has {limit} requests at work, as many as it may: wait for one, or submit to the queue"
                );
                plain(S::TOO_MANY_REQUESTS, "concurrent_requests_limit", detail)
            }
            Self::NoSuchRange(_) => {
                plain(S::RANGE_NOT_SATISFIABLE, "bad_request", "the file has no such range".into())
            }
            Self::NoRoom(_) => plain(S::SERVICE_UNAVAILABLE, NO_RUNNER, NO_ROOM.into()),
            Self::StorageFull(_) => plain(S::SERVICE_UNAVAILABLE, NO_RUNNER, STORAGE_FULL.into()),
            Self::Unavailable(_) => plain(S::SERVICE_UNAVAILABLE, NO_RUNNER, UNAVAILABLE.into()),
            Self::Internal(_) => plain(S::INTERNAL_SERVER_ERROR, "internal_error", INTERNAL.into()),
        }
    }

    /// Why a request was not accepted, if that is what happened, in a word that operators may count.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Unauthorized => Some("unauthorized"),
            Self::Barred(barred) => Some(barred.reason()),
            Self::TooManyUploads(_) => Some("too_many_uploads"),
            Self::UnknownEndpoint { .. } | Self::NotServed { .. } => Some("unknown_application"),
            Self::BadRequest(_) | Self::Encoded => Some("bad_request"),
            Self::Invalid(_) => Some("invalid"),
            Self::BodyTooLarge(_) | Self::UploadTooLarge(_) => Some("too_large"),
            Self::BodyTooSlow => Some("too_slow"),
            Self::Closing => Some("stopping"),
            Self::Starting => Some("starting"),
            Self::Busy => Some("busy"),
            Self::QueueFull(_) => Some("queue_full"),
            Self::LongerThanAsked(_) => Some("longer_than_asked"),
            Self::IdempotencyKeyTaken => Some("idempotency_key_taken"),
            Self::KeyBusy(_) => Some("key_busy"),
            Self::NoRoom(_) => Some("disk_full"),
            Self::StorageFull(_) => Some("storage_full"),
            Self::Unavailable(_) => Some("unavailable"),
            Self::NotAdmin
            | Self::FileForbidden
            | Self::UnknownPath(_)
            | Self::UnknownRequest
            | Self::UnknownCancel
            | Self::UnknownKey
            | Self::StillInProgress
            | Self::Erased
            | Self::MethodNotAllowed(_)
            | Self::Gone(_)
            | Self::NoSuchRange(_)
            | Self::Internal(_) => None,
        }
    }

    pub(crate) fn add_headers(&self, headers: &mut HeaderMap) {
        match self {
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Key"));
            }
            Self::MethodNotAllowed(allowed) => {
                let allowed = HeaderValue::try_from(allowed).expect("names of methods are a header value");
                headers.insert(header::ALLOW, allowed);
            }
            Self::Closing
            | Self::Starting
            | Self::Busy
            | Self::QueueFull(_)
            | Self::LongerThanAsked(_)
            | Self::KeyBusy(_)
            | Self::NoRoom(_)
            | Self::StorageFull(_)
            | Self::Unavailable(_)
            | Self::TooManyUploads(_) => {
                say_retryable(headers, true);
                headers.insert(header::RETRY_AFTER, RETRY_AFTER_S);
            }
            Self::Invalid(_) => {
                say_retryable(headers, false);
                headers.insert(BILLABLE_UNITS, FREE);
            }
            Self::UnknownPath(_) | Self::UnknownEndpoint { .. } | Self::NotServed { .. } => {
                headers.insert(BILLABLE_UNITS, FREE);
            }
            Self::NoSuchRange(size) => {
                let range = HeaderValue::try_from(format!("bytes */{size}"));
                headers.insert(header::CONTENT_RANGE, range.expect("digits are a header value"));
            }
            Self::NotAdmin
            | Self::FileForbidden
            | Self::Barred(_)
            | Self::UnknownRequest
            | Self::UnknownCancel
            | Self::UnknownKey
            | Self::StillInProgress
            | Self::Erased
            | Self::BadRequest(_)
            | Self::BodyTooLarge(_)
            | Self::UploadTooLarge(_)
            | Self::Gone(_)
            | Self::BodyTooSlow
            | Self::Encoded
            | Self::IdempotencyKeyTaken
            | Self::Internal(_) => {}
        }
    }
}

/// Refused and failed requests cost nothing.
const FREE: HeaderValue = HeaderValue::from_static("0");

fn say_retryable(headers: &mut HeaderMap, yes: bool) {
    let (flag, word) = if yes { ("1", "true") } else { ("0", "false") };
    headers.insert(NEEDS_RETRY, HeaderValue::from_static(flag));
    headers.insert(RETRYABLE, HeaderValue::from_static(word));
}
