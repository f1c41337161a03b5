//! What a call is for, and how its client reached the server.

pub(crate) mod call;
pub(crate) mod client_origin;
pub(crate) mod routes;
pub(crate) mod target;
