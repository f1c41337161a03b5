//! Errors as OpenAI's clients know them, on the paths of its API.

use crate::output::error::{ApiError, INTERNAL, failure_answer};
use crate::output::problem::Problem;
use crate::output::request_id::REQUEST_ID;
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use latentd_queue::queue::{Failure, FailureKind};
use serde::Serialize;
use utoipa::ToSchema;

/// Names the request on every response; clients show it.
const OPENAI_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whether a client that tries failed calls again should do so, whatever the status.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

const UNAUTHORIZED: &str =
    "The API key is missing or not one of this server's: send `Authorization: Bearer …`";

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenAiError)]
pub(crate) struct ErrorBody {
    error: Detail,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenAiErrorDetail)]
struct Detail {
    /// What is wrong, and what to change.
    message: String,
    /// `invalid_request_error`, `requests` for too many of them, or `server_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field.
    param: Option<String>,
    /// The class of the error.
    code: Option<&'static str>,
}

/// An error and its status.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    pub(crate) body: ErrorBody,
    should_retry: Option<bool>,
}

/// Is this a path of OpenAI's API? fal's platform has some of the paths below `/v1/models` too; its errors have this form as
/// well.
pub(crate) fn is_path(path: &str) -> bool {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.next() == Some("v1")
        && (segments.next() != Some("models") || segments.next() != Some("requests"))
}

/// The response to an error, in the form of the API whose path was called.
pub(crate) fn answer(path: &str, error: ApiError) -> Response {
    if !is_path(path) {
        return error.into_response();
    }
    let mut response = Refused::of(&error).into_response();
    error.add_headers(response.headers_mut());
    response
}

/// Gives a response OpenAI's header beside fal's.
pub(crate) fn name_answer(path: &str, mut response: Response) -> Response {
    if let Some(id) = response.headers().get(REQUEST_ID).cloned().filter(|_| is_path(path)) {
        response.headers_mut().insert(OPENAI_REQUEST_ID, id);
    }
    response
}

impl ErrorBody {
    /// As it is sent where no status can be.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Refused {
    pub(crate) fn new(status: StatusCode, message: String) -> Self {
        let (kind, code) = class(status);
        let error = Detail { message, kind, param: None, code };
        Self { status, body: ErrorBody { error }, should_retry: None }
    }

    /// A failure of the server's own, which is logged.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL.into())
    }

    /// Every image of a request was found unsafe.
    pub(crate) fn unsafe_content() -> Self {
        let words = "The safety checker found the images unsafe, so they are not returned";
        Self::new(StatusCode::BAD_REQUEST, words.into()).with(None, "content_policy_violation")
    }

    /// A request that failed.
    pub(crate) fn failure(failure: Failure) -> Self {
        let (kind, message) = (failure.kind, failure.message.clone());
        let refused = match failure_answer(failure).0 {
            StatusCode::UNPROCESSABLE_ENTITY => Self::new(StatusCode::BAD_REQUEST, message),
            status => Self::new(status, message),
        };
        let refused = match kind {
            FailureKind::InitImage => refused.with(Some("image".into()), "invalid_image"),
            FailureKind::Mask => refused.with(Some("mask".into()), "invalid_image"),
            FailureKind::OutOfMemory => refused.with(None, "out_of_memory"),
            _ => refused,
        };
        // Clients try a 500 again by themselves.
        Self { should_retry: Some(kind.is_retryable()), ..refused }
    }

    fn of(error: &ApiError) -> Self {
        let (status, _, body) = error.answer();
        let message = body["detail"].as_str().unwrap_or("Not found").to_owned();
        match error {
            ApiError::Invalid(problems) => match problems.first() {
                Some(problem) => Self::invalid(problem),
                None => Self::new(StatusCode::BAD_REQUEST, message),
            },
            ApiError::Unauthorized => Self::new(status, UNAUTHORIZED.into()),
            ApiError::UnknownEndpoint { .. } | ApiError::NotServed { .. } => {
                Self::new(status, message).with(Some("model".into()), "model_not_found")
            }
            // Its problem is about a header.
            ApiError::IdempotencyKeyTaken => {
                let words = "The idempotency key was sent with another input before";
                Self::new(StatusCode::BAD_REQUEST, words.into()).with(None, "idempotency_key_taken")
            }
            other => {
                let refused = Self::new(status, message);
                match other.refusal().filter(|_| status == StatusCode::SERVICE_UNAVAILABLE) {
                    Some(reason) => refused.with(None, reason),
                    None => refused,
                }
            }
        }
    }

    /// The first thing that is wrong with an input.
    fn invalid(problem: &Problem) -> Self {
        let field = problem.field();
        let (kind, words) = (problem.kind(), problem.message());
        let message = match &field {
            Some(field) if kind == "unknown_parameter" => format!("Unknown parameter: '{field}'."),
            Some(field) if kind == "missing" => format!("Missing required parameter: '{field}'."),
            Some(field) => format!("Invalid value for '{field}': {words}."),
            None => format!("{words}."),
        };
        let code = match kind {
            "unknown_parameter" => "unknown_parameter",
            "missing" => "missing_required_parameter",
            "feature_not_supported" => "unsupported_parameter",
            "json_invalid" => "invalid_json",
            kind if kind.ends_with("_type") => "invalid_type",
            _ => "invalid_value",
        };
        Self::new(StatusCode::BAD_REQUEST, message).with(field, code)
    }

    fn with(mut self, param: Option<String>, code: &'static str) -> Self {
        (self.body.error.param, self.body.error.code) = (param, Some(code));
        self
    }
}

/// Type and code of an error that has no code of its own.
fn class(status: StatusCode) -> (&'static str, Option<&'static str>) {
    const REQUEST: &str = "invalid_request_error";
    match status.as_u16() {
        401 => (REQUEST, Some("invalid_api_key")),
        404 => (REQUEST, Some("not_found")),
        405 => (REQUEST, Some("method_not_supported")),
        413 => (REQUEST, Some("request_too_large")),
        429 => ("requests", Some("rate_limit_exceeded")),
        500.. => ("server_error", None),
        _ => (REQUEST, None),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(should_retry) = self.should_retry {
            let word = if should_retry { "true" } else { "false" };
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static(word));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_openais_api_are_distinguished_from_fals() {
        for path in
            ["/v1/models", "//v1/models/", "/v1/models/mini", "/v1/images/edits", "/v1/chat/completions"]
        {
            assert!(is_path(path), "{path}");
        }
        for path in ["/", "/models", "/v1/models/requests/x/payloads", "/run/v1/models", "/fal-ai/x"] {
            assert!(!is_path(path), "{path}");
        }
    }
}
