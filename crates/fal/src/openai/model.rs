//! `model`: which model a call means, and `GET /v1/models/{model}`.

use crate::calls::models::OpenAiModel;
use crate::endpoint::Task;
use crate::output::error::ApiError;
use crate::routing::served_endpoint::{self, ServedEndpoint};
use crate::state::Api;
use axum::Json;
use axum::response::{IntoResponse, Response};

/// The organisation in whose name Hugging Face's hub has the published models.
const HUB_OWNER: &str = "stabilityai/";

/// `GET /v1/models/{model}`.
pub(crate) fn get(api: &Api, name: &str) -> Result<Response, ApiError> {
    let route = find(api, Some(name), Task::TextToImage)?;
    Ok(Json(OpenAiModel::of(route.endpoint)).into_response())
}

/// The endpoint of a model by any of its names: that of `/v1/models`, that of the published model, with or without the
/// hub's owner before it, and fal's id. Without a name it is the first that is served.
pub(crate) fn find<'a>(api: &'a Api, name: Option<&str>, task: Task) -> Result<ServedEndpoint<'a>, ApiError> {
    let mut served = api.endpoints.iter().filter_map(|endpoint| ServedEndpoint::new(endpoint, task));
    let found = match name {
        None => served.next(),
        Some(name) => served
            .clone()
            .find(|route| is_published(route, name))
            .or_else(|| served.find(|route| route.stand_in == Some(name))),
    };
    found.ok_or_else(|| {
        let what = format!("Model {:?}", name.unwrap_or_default());
        let served = OpenAiModel::all(api).into_iter().map(|model| model.id).collect();
        ApiError::UnknownEndpoint { what, served }
    })
}

fn is_published(route: &ServedEndpoint<'_>, name: &str) -> bool {
    let endpoint = route.endpoint;
    name.strip_prefix(HUB_OWNER).unwrap_or(name) == endpoint.model || served_endpoint::names(endpoint, name)
}
