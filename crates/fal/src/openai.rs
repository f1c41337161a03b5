//! OpenAI's image API on the same queue: models, and images that are generated or edited. Its errors are in
//! `output/openai_error.rs`.
//!
//! A call becomes the same [`latentd_request::ImageRequest`] as one of fal's run, and its client waits for the result in the same
//! way.

pub(crate) mod events;
mod form;
pub(crate) mod images;
pub(crate) mod input;
pub(crate) mod model;
pub(crate) mod output;
mod quality;
mod size;
