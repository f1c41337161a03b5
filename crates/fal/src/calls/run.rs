//! `POST fal.run/{application}`, or a GET with the input in its query: the response is the result.

use crate::calls::early_response;
use crate::calls::status;
use crate::calls::submit;
use crate::calls::wait::wait;
use crate::input;
use crate::input::body::{Input, Sent};
use crate::output::error::ApiError;
use crate::output::links::Links;
use crate::output::request_id::REQUEST_ID;
use crate::output::request_id::id_header;
use crate::routing::call::Call;
use crate::routing::served_endpoint;
use crate::routing::target::Application;
use crate::server::memory::Reservation;
use crate::state::Api;
use crate::state::waiting_clients::ClientGuard;
use axum::http::HeaderMap;
use axum::response::Response;
use latentd_queue::keys::Caller;
use latentd_queue::queue::{NewRequest, Origin, Outcome};
use latentd_request::ImageRequest;
use std::sync::Arc;

/// Runs a request of its own in the common queue; stops it when the client goes away.
pub(crate) async fn run(
    api: &Arc<Api>,
    call: &Call,
    application: &Application,
    headers: &HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let client = open(api, call, application, headers, sent).await?;
    let id = client.id;
    let mut response = match tokio::time::timeout(api.run_patience, wait(&api.queue, id)).await {
        Ok(bytes) => {
            let bytes = bytes?;
            client.close();
            status::ended_response(api, call, id, bytes).await?
        }
        Err(_) => {
            let links = call.links.clone();
            early_response::answer(api, client, move |outcome| last(&links, outcome))
        }
    };
    response.headers_mut().insert(REQUEST_ID, id_header(id));
    Ok(response)
}

/// Puts a request into the queue whose client waits here, or joins the one that the client sent before.
pub(crate) async fn open(
    api: &Arc<Api>,
    call: &Call,
    application: &Application,
    headers: &HeaderMap,
    sent: Sent,
) -> Result<ClientGuard, ApiError> {
    let input = submit::accept(api, call, application, sent).await?;
    open_with(api, call, application, headers, input).await
}

/// The same with an input that was read already.
pub(crate) async fn open_with(
    api: &Arc<Api>,
    call: &Call,
    application: &Application,
    headers: &HeaderMap,
    Input { value, memory }: Input,
) -> Result<ClientGuard, ApiError> {
    let route = served_endpoint::find(api, application)?;
    let request = input::read(&value, &route, call).map_err(ApiError::Invalid)?;
    let new = submit::new_request(api, call, application, headers, &value, Origin::Direct)?;
    drop(value);
    admit(api, &call.caller, new, request, memory).await
}

/// Puts a valid request into the queue whose client waits here, or joins the one that the client sent before.
pub(crate) async fn admit(
    api: &Arc<Api>,
    caller: &Caller,
    new: NewRequest,
    request: ImageRequest,
    memory: Reservation,
) -> Result<ClientGuard, ApiError> {
    let (api, caller, has_idempotency_key) = (api.clone(), caller.clone(), new.idempotency.is_some());
    // A task of its own, which ends even if the client goes meanwhile: what was accepted is then cancelled.
    let accepted = tokio::spawn(async move {
        let submitted = async { submit::enqueue(&api, &caller, new, request).await.map(|(id, _)| id) };
        let client = api.waiting_clients.admit(&api.queue, has_idempotency_key, submitted).await;
        drop(memory);
        client
    });
    accepted.await.map_err(|error| ApiError::Internal(format!("a request was not accepted: {error}")))?
}

fn last(links: &Links, outcome: Outcome) -> Result<String, String> {
    match status::late_body(links, outcome) {
        Ok(result) => Ok(result.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
