//! Status, result and cancellation of a request.

use crate::calls::wait;
use crate::output::error::{ApiError, BILLABLE_UNITS, ERASED, INTERNAL, failure_answer, failure_response};
use crate::output::links::Links;
use crate::output::request_id::REQUEST_ID;
use crate::output::request_id::id_header;
use crate::output::wire::{CancelWord, Cancelled, OutputBody, StatusBody};
use crate::routing::call::Call;
use crate::state::Api;
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use latentd_queue::queue::{CancelAnswer, Ended, FailureKind, Outcome, RequestId};
use latentd_request::Output;
use serde_json::{Value, json};

/// Names the worker that made a result.
const SERVED_FROM: HeaderName = HeaderName::from_static("x-fal-served-from");

/// `GET …/status`: 202 until the request is over, with all its log lines when they are asked for.
pub(crate) async fn status(api: &Api, call: &Call, id: RequestId) -> Result<Response, ApiError> {
    // The status first: a line that is written in between is then shown early, never lost.
    let status = api.queue.status(id).await?.ok_or(ApiError::UnknownRequest)?;
    let logs = if call.switch("logs") { api.queue.logs(id, 0).await? } else { Vec::new() };
    let body = StatusBody::new(&call.links, &status, &logs);
    let code = if body.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((code, [(REQUEST_ID, id_header(id))], Json(body)).into_response())
}

/// `GET …/requests/{id}`: the output, or the error that took its place.
pub(crate) async fn result(api: &Api, call: &Call, id: RequestId) -> Result<Response, ApiError> {
    let mut response = match api.queue.ended_bytes(id).await? {
        Some(bytes) => ended_response(api, call, id, bytes).await.unwrap_or_else(IntoResponse::into_response),
        None if api.queue.status(id).await?.is_some() => ApiError::StillInProgress.into_response(),
        None => ApiError::UnknownRequest.into_response(),
    };
    response.headers_mut().insert(REQUEST_ID, id_header(id));
    Ok(response)
}

/// The answer that an ended request with an output of so many bytes deserves.
pub(crate) async fn ended_response(
    api: &Api,
    call: &Call,
    id: RequestId,
    bytes: u64,
) -> Result<Response, ApiError> {
    let memory = api.memory.answer(bytes).await?;
    let Ended { outcome, worker } = wait::ended(&api.queue, id).await?;
    let mut response = match outcome {
        Outcome::Output(value) => output_response(call, value)?,
        Outcome::Failed(failure) => failure_response(failure),
        Outcome::Erased => return Err(ApiError::Erased),
    };
    if let Some(worker) = worker.and_then(|worker| HeaderValue::try_from(worker).ok()) {
        response.headers_mut().insert(SERVED_FROM, worker);
    }
    Ok(memory.hold(response))
}

fn output_response(call: &Call, value: Value) -> Result<Response, ApiError> {
    let output: Output = serde_json::from_value(value)
        .map_err(|error| ApiError::Internal(format!("a stored output cannot be read: {error}")))?;
    let pixels: usize = output.images.iter().map(|image| image.width * image.height).sum();
    // fal bills this model by the megapixel.
    let units = (pixels as f64 / 1e6).to_string();
    let units = HeaderValue::try_from(units).expect("a number is a header value");
    Ok(([(BILLABLE_UNITS, units)], Json(OutputBody::new(&call.links, output))).into_response())
}

/// The body for an end after a status was sent: the output, or the error in its place.
pub(crate) fn late_body(links: &Links, outcome: Outcome) -> Result<Value, Value> {
    match outcome {
        Outcome::Output(value) => match serde_json::from_value(value) {
            Ok(output) => Ok(json!(OutputBody::new(links, output))),
            Err(error) => {
                tracing::error!(%error, "a stored output cannot be read");
                Err(json!({ "detail": INTERNAL }))
            }
        },
        Outcome::Failed(failure) => Err(failure_answer(failure).1),
        Outcome::Erased => Err(json!({ "detail": ERASED })),
    }
}

/// `PUT …/cancel`.
pub(crate) async fn cancel(api: &Api, id: RequestId) -> Result<Response, ApiError> {
    let (code, status) = match api.queue.cancel(id, FailureKind::Cancelled).await? {
        CancelAnswer::Removed => (StatusCode::OK, CancelWord::Ok),
        CancelAnswer::Requested => (StatusCode::ACCEPTED, CancelWord::CancellationRequested),
        CancelAnswer::AlreadyDone => (StatusCode::BAD_REQUEST, CancelWord::AlreadyCompleted),
        CancelAnswer::Unknown => return Err(ApiError::UnknownCancel),
    };
    Ok((code, [(REQUEST_ID, id_header(id))], Json(Cancelled::new(status))).into_response())
}
