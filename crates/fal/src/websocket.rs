//! Web sockets: realtime, and run and stream over one connection.

pub(crate) mod frames;
pub(crate) mod over_websocket;
pub(crate) mod realtime;
pub(crate) mod socket;
