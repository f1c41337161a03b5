//! `POST queue.fal.run/{application}`: accept a request and say where to ask about it.

use crate::access::isolation;
use crate::calls::idempotency;
use crate::calls::request_options;
use crate::calls::webhook;
use crate::input;
use crate::input::body::{self, Input, Sent};
use crate::input::query;
use crate::output::error::ApiError;
use crate::output::problem::Problem;
use crate::output::request_id::REQUEST_ID;
use crate::output::request_id::id_header;
use crate::output::wire::Submitted;
use crate::routing::call::Call;
use crate::routing::served_endpoint;
use crate::routing::target::Application;
use crate::server::memory::Reservation;
use crate::state::Api;
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use latentd_queue::keys::Caller;
use latentd_queue::queue::{
    Failure, FailureKind, NewRequest, Origin, Phase, Priority, RequestId, Submission,
};
use latentd_request::ImageRequest;
use serde_json::{Value, json};

/// Asks for `low` priority.
pub(crate) const PRIORITY: &str = "x-fal-queue-priority";

/// Asks to be refused where more than so many wait.
pub(crate) const MAX_QUEUE_LENGTH: &str = "fal_max_queue_length";

/// Accepts a request. Input that the model refuses is accepted too, as on fal: the refusal is its result.
pub(crate) async fn submit(
    api: &Api,
    call: &Call,
    application: &Application,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Input { value, memory: _held } = accept(api, call, application, Sent::Stream(body)).await?;
    let mut new = new_request(api, call, application, headers, &value, Origin::Queued)?;
    new.webhook = webhook::asked(api, call)?;
    let route = served_endpoint::find(api, application)?;
    new.model = Some(route.endpoint.model.clone());
    let read = input::read(&value, &route, call);
    drop(value);
    let (id, ahead) = match read {
        Ok(request) => enqueue(api, &call.caller, new, request).await?,
        Err(problems) if api.validate_on_submit => return Err(ApiError::Invalid(problems)),
        Err(problems) => {
            let submission = api.queue.submit_failed(&new, &refusal(&problems)).await?;
            accepted(api, submission).await?
        }
    };
    let answer = Submitted::new(&call.links, &application.id, id, ahead);
    Ok(([(REQUEST_ID, id_header(id))], Json(answer)).into_response())
}

/// What must hold before the input is looked at; returns the input.
pub(crate) async fn accept(
    api: &Api,
    call: &Call,
    application: &Application,
    sent: Sent,
) -> Result<Input, ApiError> {
    let max = admit(api, application).await?;
    if call.method == Method::GET {
        return Ok(Input { value: query::input(call), memory: Reservation::default() });
    }
    body::json(&api.memory, sent, max).await
}

/// Is this application served here, and now? Returns the bytes of the largest input that it takes.
pub(crate) async fn admit(api: &Api, application: &Application) -> Result<usize, ApiError> {
    served_endpoint::find(api, application)?;
    check_open(api).await?;
    Ok(input::MAX_BYTES)
}

/// Passes while the server takes new work, and has space for it.
pub(crate) async fn check_open(api: &Api) -> Result<(), ApiError> {
    if *api.closing.borrow() {
        return Err(ApiError::Closing);
    }
    api.check_space(0).await
}

/// Puts a valid request into the queue, unless too many wait.
pub(crate) async fn enqueue(
    api: &Api,
    caller: &Caller,
    mut new: NewRequest,
    mut request: ImageRequest,
) -> Result<(RequestId, u64), ApiError> {
    isolation::restrict_sources(api, caller, &mut request).await?;
    request.private = new.options.forget;
    request.without_settings = request.private || api.no_metadata;
    new.body = json!(request);
    new.model = Some(request.model);
    let submission = api.queue.submit(&new).await?;
    accepted(api, submission).await
}

/// Waiting requests above which this one is refused, whether its input is valid or not.
fn max_waiting(api: &Api, call: &Call) -> Result<u64, ApiError> {
    let Some(text) = call.parameter(MAX_QUEUE_LENGTH) else { return Ok(api.max_queue) };
    let length: u64 = text
        .parse()
        .map_err(|_| ApiError::BadRequest(format!("{MAX_QUEUE_LENGTH}: expected a number of requests")))?;
    // fal refuses when the queue is longer than asked for, so one more than that is too many.
    Ok(api.max_queue.min(length.saturating_add(1)))
}

/// Id and place of a request that the queue has.
async fn accepted(api: &Api, submission: Submission) -> Result<(RequestId, u64), ApiError> {
    match submission {
        Submission::Accepted { id, ahead } => Ok((id, ahead)),
        Submission::Full { waiting } if waiting >= api.max_queue => Err(ApiError::QueueFull(waiting)),
        Submission::Full { waiting } => Err(ApiError::LongerThanAsked(waiting)),
        Submission::KeyBusy { limit } => Err(ApiError::KeyBusy(limit)),
        Submission::KeyTaken => Err(ApiError::IdempotencyKeyTaken),
        Submission::Known { id } => match api.queue.status(id).await?.map(|status| status.phase) {
            Some(Phase::Waiting { ahead }) => Ok((id, ahead)),
            _ => Ok((id, 0)),
        },
    }
}

/// The row of a request, without the part for the worker, which is added later.
pub(crate) fn new_request(
    api: &Api,
    call: &Call,
    application: &Application,
    headers: &HeaderMap,
    input: &Value,
    origin: Origin,
) -> Result<NewRequest, ApiError> {
    let low = headers.get(PRIORITY).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"low"));
    Ok(NewRequest {
        endpoint: application.id.clone(),
        origin,
        priority: if low { Priority::Low } else { Priority::Normal },
        body: Value::Null,
        model: None,
        max_waiting: Some(max_waiting(api, call)?),
        options: request_options::read(headers)?,
        webhook: None,
        api_key: call.caller.key.clone(),
        client: call.client_address().map(|address| address.to_string()),
        traceparent: call.span.traceparent(),
        idempotency: idempotency::read(headers, application, input)?,
    })
}

fn refusal(problems: &[Problem]) -> Failure {
    Failure { detail: Some(json!(problems)), ..Failure::of(FailureKind::Invalid) }
}
