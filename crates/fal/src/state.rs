//! What all calls share.

mod api;
pub(crate) mod waiting_clients;
pub(crate) mod web_access;

pub use api::Api;
