//! The table of routes, what a call is for, and how its client reached the server.

pub(crate) mod admin_call;
pub(crate) mod call;
pub(crate) mod call_span;
pub(crate) mod client_address;
pub(crate) mod client_origin;
pub(crate) mod parameters;
pub(crate) mod resolve;
pub(crate) mod served_endpoint;
pub(crate) mod table;
pub(crate) mod target;
pub(crate) mod upload_call;
