//! The response to the result of a request that failed.

use super::{BILLABLE_UNITS, ERROR_TYPE, FREE, TIMEOUT_TYPE, say_retryable};
use crate::output::initial_image;
use crate::output::lora;
use crate::output::names;
use crate::output::problem::{Problem, Problems, Refusal};
use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use latentd_queue::queue::{Failure, FailureKind};
use serde_json::{Value, json};

/// The class of a request whose input is at fault.
const BAD_REQUEST: &str = "bad_request";

/// The class of a failed request, and the line that its status shows.
pub(crate) fn failure_words(kind: FailureKind, message: &str) -> (&'static str, String) {
    match kind {
        FailureKind::Invalid
        | FailureKind::InitImage
        | FailureKind::Mask
        | FailureKind::Lora
        | FailureKind::ControlNet
        | FailureKind::ControlImage
        | FailureKind::IpAdapter
        | FailureKind::ImageEncoder
        | FailureKind::ImagePrompt => (BAD_REQUEST, "Invalid status code: 422".into()),
        FailureKind::Cancelled => ("client_cancelled", message.into()),
        FailureKind::ClientGone => ("client_disconnected", message.into()),
        FailureKind::Engine | FailureKind::OutOfMemory | FailureKind::WorkerLost => {
            ("runner_server_error", message.into())
        }
        FailureKind::StartTimeout => ("request_timeout", message.into()),
    }
}

/// What nginx calls a 499: the JavaScript client shows it as the error's message.
const CLIENT_CLOSED_REQUEST: ReasonPhrase = ReasonPhrase::from_static(b"Client Closed Request");

/// The response to a failed request's result.
pub(crate) fn failure_response(failure: Failure) -> Response {
    let (class, _) = failure_words(failure.kind, &failure.message);
    let kind = failure.kind;
    let (status, body) = failure_answer(failure);
    let mut response = (status, Json(body)).into_response();
    if status.canonical_reason().is_none() {
        response.extensions_mut().insert(CLIENT_CLOSED_REQUEST);
    }
    let headers = response.headers_mut();
    headers.insert(BILLABLE_UNITS, FREE);
    say_retryable(headers, kind.is_retryable());
    if class != BAD_REQUEST {
        headers.insert(ERROR_TYPE, HeaderValue::from_static(class));
    }
    if kind == FailureKind::StartTimeout {
        // Clients send a 504 again unless this says that the time was theirs.
        headers.insert(TIMEOUT_TYPE, HeaderValue::from_static("user"));
    }
    response
}

/// Status and body of a failed request's result.
pub(crate) fn failure_answer(failure: Failure) -> (StatusCode, Value) {
    let (class, _) = failure_words(failure.kind, &failure.message);
    let status = match failure.kind {
        FailureKind::Invalid => {
            let detail = failure.detail.unwrap_or_else(|| json!([Problem::of_request(&failure.message)]));
            return (StatusCode::UNPROCESSABLE_ENTITY, json!({ "detail": detail }));
        }
        FailureKind::InitImage | FailureKind::Mask | FailureKind::ControlImage | FailureKind::ImagePrompt => {
            let field: &[&str] = match failure.kind {
                FailureKind::Mask => &[names::MASK_URL],
                FailureKind::ControlImage => &[names::CONTROLNET, names::CONTROL_IMAGE],
                FailureKind::ImagePrompt => &[names::IP_ADAPTER, names::IMAGE_URL],
                _ => &[names::IMAGE_URL],
            };
            let flaw = failure.detail.and_then(|detail| serde_json::from_value(detail).ok());
            let detail = vec![initial_image::problem(field, flaw, &failure.message)];
            return (StatusCode::UNPROCESSABLE_ENTITY, json!(Problems { detail }));
        }
        FailureKind::Lora | FailureKind::ControlNet | FailureKind::IpAdapter | FailureKind::ImageEncoder => {
            let found = failure.detail.and_then(|detail| serde_json::from_value(detail).ok());
            let of = |field: &[&str], found| lora::network_problem(field, found, &failure.message);
            let detail = vec![match failure.kind {
                FailureKind::ControlNet => of(&[names::CONTROLNET, names::ADAPTER_PATH], found),
                FailureKind::IpAdapter => of(&[names::IP_ADAPTER, names::ADAPTER_PATH], found),
                FailureKind::ImageEncoder => of(&[names::IP_ADAPTER, names::IMAGE_ENCODER], found),
                _ => lora::problem(found, &failure.message),
            }];
            return (StatusCode::UNPROCESSABLE_ENTITY, json!(Problems { detail }));
        }
        // nginx's "client closed request", which fal uses too.
        FailureKind::Cancelled | FailureKind::ClientGone => StatusCode::from_u16(499),
        FailureKind::Engine | FailureKind::OutOfMemory | FailureKind::WorkerLost => {
            Ok(StatusCode::INTERNAL_SERVER_ERROR)
        }
        FailureKind::StartTimeout => Ok(StatusCode::GATEWAY_TIMEOUT),
    };
    let status = status.expect("499 is a status code");
    (status, json!(Refusal { status: None, detail: Some(failure.message), error_type: Some(class) }))
}
