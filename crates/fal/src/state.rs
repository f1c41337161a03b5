//! What all calls share.

mod api;
pub(crate) mod documents;
pub(crate) mod gpu;
pub(crate) mod probe;
pub(crate) mod refusals;
pub(crate) mod waiting_clients;
pub(crate) mod web_access;

pub use api::Api;
