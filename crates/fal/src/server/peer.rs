//! The other end of a connection.

use std::net::IpAddr;

/// The address of a client, or of the proxy in front of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);
