//! Responses and errors as fal's clients know them, and errors as OpenAI's do.

pub(crate) mod barred;
pub(crate) mod error;
pub(crate) mod initial_image;
pub(crate) mod links;
pub(crate) mod lora;
pub(crate) mod names;
pub(crate) mod openai_error;
pub(crate) mod problem;
pub(crate) mod request_id;
pub(crate) mod wire;
