//! `POST /v1/images/generations` and `POST /v1/images/edits`.

use super::input::{self, Asked, Files, MODEL};
use super::output::Wanted;
use super::{events, form, model};
use crate::calls::wait;
use crate::calls::{early_response, run, submit};
use crate::endpoint::Task;
use crate::input::MAX_BYTES;
use crate::input::body::{self, Input, Sent};
use crate::output::error::ApiError;
use crate::output::problem::Problem;
use crate::output::request_id::{REQUEST_ID, id_header};
use crate::routing::call::Call;
use crate::routing::target::Application;
use crate::server::memory::Reservation;
use crate::state::Api;
use crate::state::waiting_clients::ClientGuard;
use axum::Json;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use latentd_queue::queue::Origin;
use serde_json::{Map, Value};
use std::sync::Arc;

/// `POST /v1/images/generations`.
pub(crate) async fn generate(
    api: &Arc<Api>,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    submit::check_open(api).await?;
    let Input { value, memory } = body::json(&api.memory, Sent::Stream(body), MAX_BYTES).await?;
    let Value::Object(fields) = value else {
        let words = "Input should be an object";
        return Err(ApiError::Invalid(vec![Problem::at(&[], "model_attributes_type", words, &value)]));
    };
    answer(api, call, headers, Task::TextToImage, fields, Files::default(), memory).await
}

/// `POST /v1/images/edits`.
pub(crate) async fn edit(
    api: &Arc<Api>,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    submit::check_open(api).await?;
    let form::Form { fields, image, mask, memory } =
        form::read(&api.memory, headers, body, MAX_BYTES).await?;
    answer(api, call, headers, Task::ImageToImage, fields, Files { image, mask }, memory).await
}

/// Puts the request into the queue and answers with its images. It is stopped when the client goes away.
async fn answer(
    api: &Arc<Api>,
    call: &Call,
    headers: &HeaderMap,
    task: Task,
    mut fields: Map<String, Value>,
    files: Files,
    memory: Reservation,
) -> Result<Response, ApiError> {
    // OpenAI's clients send null for what is left out.
    fields.retain(|_, value| !value.is_null());
    let name = match fields.get(MODEL) {
        None => None,
        Some(Value::String(name)) => Some(name.as_str()),
        Some(other) => {
            let words = "Input should be a valid string";
            return Err(ApiError::Invalid(vec![Problem::at(&[MODEL], "string_type", words, other)]));
        }
    };
    let route = model::find(api, name, task)?;
    let Asked { request, wanted, partial_images } =
        input::read(&fields, &route, files).map_err(ApiError::Invalid)?;
    let application = Application::named(&route.id()).unwrap_or_default();
    let value = Value::Object(fields);
    let new = submit::new_request(api, call, &application, headers, &value, Origin::Direct)?;
    drop(value);
    let client = run::admit(api, &call.caller, new, request, memory).await?;
    match partial_images {
        Some(count) => events::follow(api, call, wanted, count, client).await,
        None => whole(api, call, wanted, client).await,
    }
}

/// Answers once all images are there. Where that takes long, the head of the response is sent before.
async fn whole(
    api: &Arc<Api>,
    call: &Call,
    wanted: Wanted,
    client: ClientGuard,
) -> Result<Response, ApiError> {
    let id = client.id;
    let links = call.links.clone();
    let mut response = match tokio::time::timeout(api.run_patience, wait::wait(&api.queue, id)).await {
        Ok(bytes) => {
            let bytes = bytes?;
            client.close();
            let memory = api.memory.answer(bytes).await?;
            let ended = wait::ended(&api.queue, id).await?;
            memory.hold(match wanted.body(&links, api.queue.now().as_second(), ended.outcome) {
                Ok(body) => Json(body).into_response(),
                Err(refused) => refused.into_response(),
            })
        }
        Err(_) => {
            let queue = api.queue.clone();
            let last = move |outcome| {
                wanted.late(&links, queue.now().as_second(), outcome).map_err(|error| error.text())
            };
            early_response::answer(api, client, last)
        }
    };
    response.headers_mut().insert(REQUEST_ID, id_header(id));
    Ok(response)
}
