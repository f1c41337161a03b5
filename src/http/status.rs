//! Status, result and cancellation of a request.

use super::call::Call;
use super::error::{ApiError, failure_response};
use super::wire::{CancelWord, Cancelled, OutputBody, StatusBody};
use super::{Api, REQUEST_ID, id_header};
use crate::queue::{CancelAnswer, FailureKind, Outcome, RequestId};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// `GET …/status`: 202 until the request is over, with all its log lines when they are asked for.
pub(super) async fn status(api: &Api, call: &Call, id: RequestId) -> Result<Response, ApiError> {
    // The status first: a line that is written in between is then shown early, never lost.
    let status = api.queue.status(id).await?.ok_or(ApiError::UnknownRequest)?;
    let logs = if call.switch("logs") { api.queue.logs(id, 0).await? } else { Vec::new() };
    let body = StatusBody::new(&call.links, &status, &logs);
    let code = if body.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((code, [(REQUEST_ID, id_header(id))], Json(body)).into_response())
}

/// `GET …/requests/{id}`: the output, or the error that took its place.
pub(super) async fn result(api: &Api, call: &Call, id: RequestId) -> Result<Response, ApiError> {
    let mut response = match api.queue.outcome(id).await? {
        Some(outcome) => outcome_response(call, outcome)?,
        None if api.queue.status(id).await?.is_some() => ApiError::StillInProgress.into_response(),
        None => ApiError::UnknownRequest.into_response(),
    };
    response.headers_mut().insert(REQUEST_ID, id_header(id));
    Ok(response)
}

/// The answer that an ended request deserves.
pub(super) fn outcome_response(call: &Call, outcome: Outcome) -> Result<Response, ApiError> {
    match outcome {
        Outcome::Output(value) => {
            let output = serde_json::from_value(value)
                .map_err(|error| ApiError::Internal(format!("a stored output cannot be read: {error}")))?;
            Ok(Json(OutputBody::new(&call.links, output)).into_response())
        }
        Outcome::Failed(failure) => Ok(failure_response(failure)),
    }
}

/// `PUT …/cancel`.
pub(super) async fn cancel(api: &Api, id: RequestId) -> Result<Response, ApiError> {
    let (code, status) = match api.queue.cancel(id, FailureKind::Cancelled).await? {
        CancelAnswer::Removed => (StatusCode::OK, CancelWord::Ok),
        CancelAnswer::Requested => (StatusCode::ACCEPTED, CancelWord::CancellationRequested),
        CancelAnswer::AlreadyDone => (StatusCode::BAD_REQUEST, CancelWord::AlreadyCompleted),
        CancelAnswer::Unknown => return Err(ApiError::UnknownCancel),
    };
    Ok((code, [(REQUEST_ID, id_header(id))], Json(Cancelled { status })).into_response())
}
