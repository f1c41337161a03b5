//! Connections of clients, and the memory that all of them together may hold.

pub(crate) mod connections;
pub(crate) mod guarded_body;
pub(crate) mod listener;
pub(crate) mod memory;
pub(crate) mod peer;
