//! `GET /v1/models`, which fal has at `api.fal.ai` and OpenAI at `api.openai.com`: one list has the endpoints for clients of
//! fal, and the models that answer there for those of OpenAI.

use crate::endpoint::Endpoint;
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

/// The endpoints and the models, all of them on one page.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`, for clients of OpenAI.
    object: &'static str,
    /// The models, for clients of OpenAI. No parameter picks of them.
    data: Vec<OpenAiModel>,
    /// The endpoints, for clients of fal.
    models: Vec<ModelEntry>,
    /// There is no other page.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<()>,
    has_more: bool,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct OpenAiModel {
    /// By this name calls of OpenAI's API choose it.
    pub(crate) id: String,
    /// `model`.
    object: &'static str,
    /// When it was published, in seconds since 1970.
    created: i64,
    /// Who published it.
    owned_by: &'static str,
}

impl OpenAiModel {
    /// The model that answers at an endpoint.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let is_published = endpoint.answering() == endpoint.model;
        Self {
            id: endpoint.answering().to_owned(),
            object: "model",
            created: endpoint.released,
            owned_by: if is_published { "stabilityai" } else { "latentd" },
        }
    }

    /// Every model that answers, each once.
    pub(crate) fn all(api: &Api) -> Vec<Self> {
        let mut models: Vec<Self> = Vec::new();
        for endpoint in api.endpoints.iter().filter(|endpoint| endpoint.served.is_some()) {
            if models.iter().all(|model| model.id != endpoint.answering()) {
                models.push(Self::of(endpoint));
            }
        }
        models
    }
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
    let (object, data) = ("list", OpenAiModel::all(api));
    Json(ModelList { object, data, models: models.collect(), next_cursor: None, has_more: false })
        .into_response()
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
