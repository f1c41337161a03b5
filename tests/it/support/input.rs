//! Inputs of requests, and what there is to request.

use latentd_fal::endpoint::{Endpoint, Served};
use latentd_request::Limits;
use serde_json::{Value, json};

pub(crate) const ENDPOINT: &str = "fal-ai/stable-diffusion-v35-large";

/// The names of all models.
pub(crate) fn every_model() -> Vec<String> {
    Endpoint::known(|_| None).into_iter().map(|endpoint| endpoint.model).collect()
}

/// Every endpoint, each served by a model that generates up to so many pixels a side.
pub(crate) fn endpoints(max_side: usize) -> Vec<Endpoint> {
    Endpoint::known(|_| Some(Served::published(Limits::of_model(max_side), 38)))
}

/// A valid input of three steps whose image is small.
pub(crate) fn small() -> Value {
    json!({ "prompt": "a fox", "image_size": { "width": 32, "height": 16 }, "num_inference_steps": 3, "seed": 7 })
}

/// The same with one field set.
pub(crate) fn small_with(field: &str, value: impl Into<Value>) -> Value {
    let mut input = small();
    input[field] = value.into();
    input
}
