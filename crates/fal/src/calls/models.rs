//! `GET /v1/models`, which fal has at `api.fal.ai`: the endpoints that are served, and which model answers there.

use crate::routing::call::Call;
use crate::routing::served_endpoint::{self, ServedEndpoint};
use crate::state::Api;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Picks endpoints by their ids; may be given several times.
pub(crate) const ENDPOINT_ID: &str = "endpoint_id";

/// Picks endpoints of one task.
pub(crate) const CATEGORY: &str = "category";

/// Picks endpoints in whose id or name a word is.
pub(crate) const WORD: &str = "q";

/// The endpoints, all of them on one page.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    models: Vec<ModelEntry>,
    /// There is no other page.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<()>,
    has_more: bool,
}

/// An endpoint.
#[derive(Serialize, ToSchema)]
struct ModelEntry {
    /// By this id programs call it.
    endpoint_id: String,
    metadata: Metadata,
}

/// The description of an endpoint.
#[derive(Serialize, ToSchema)]
struct Metadata {
    /// The model that answers, for people.
    display_name: String,
    /// `text-to-image` or `image-to-image`.
    category: &'static str,
    description: String,
    /// `active`.
    status: &'static str,
    /// Where it is run.
    model_url: String,
    /// `inference`.
    kind: &'static str,
}

/// Answers with those that the query picks.
pub(crate) fn list(api: &Api, call: &Call) -> Response {
    let models = served_endpoint::all(&api.endpoints)
        .map(|route| entry(&route, call))
        .filter(|entry| picks(call, entry));
    Json(ModelList { models: models.collect(), next_cursor: None, has_more: false }).into_response()
}

fn entry(route: &ServedEndpoint<'_>, call: &Call) -> ModelEntry {
    let endpoint_id = route.id();
    let name = route.endpoint.answering();
    let metadata = Metadata {
        display_name: route.endpoint.answering_title(),
        category: route.task.category(),
        description: format!("{name}, up to {} pixels a side.", route.limits.max_side),
        status: "active",
        model_url: format!("{}/run/{endpoint_id}", call.links.origin()),
        kind: "inference",
    };
    ModelEntry { endpoint_id, metadata }
}

fn picks(call: &Call, entry: &ModelEntry) -> bool {
    let ids: Vec<_> = call.parameters().filter(|(name, _)| name == ENDPOINT_ID).map(|(_, id)| id).collect();
    let words = format!("{} {}", entry.endpoint_id, entry.metadata.display_name).to_lowercase();
    (ids.is_empty() || ids.iter().any(|id| *id == entry.endpoint_id))
        && call.parameter(CATEGORY).is_none_or(|category| category == entry.metadata.category)
        && call.parameter(WORD).is_none_or(|word| words.contains(&word.to_lowercase()))
}
