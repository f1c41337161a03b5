//! Outgoing connections: which addresses an untrusted URL may have, and HTTP calls to those addresses alone.
//!
//! - [`Egress`]: the policy, public addresses and what the operator allows besides;
//! - [`Client`]: connects to what a policy permits, in plain or over TLS, and downloads files within bounds;
//! - [`tls_config`]: TLS with the certificates that the system trusts.
#![forbid(unsafe_code)]

mod client;
mod policy;
mod tls;

pub use client::{Client, DownloadError, MAX_DOWNLOAD_BYTES, Sink, Streamed, Validators};
pub use policy::Egress;
pub use tls::{tls_config, tls_config_without_roots};
