//! The command line of `latentd doctor`.

use super::{EngineArgs, SafetyArgs, StoreArgs};
use clap::{ArgAction, Args};
use std::net::SocketAddr;

/// Flags of `latentd doctor`: those of `serve` that it looks at.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Address that `serve` would listen on.
    #[arg(long, env = "LATENTD_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub engine: EngineArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub safety: SafetyArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub store: StoreArgs,
    /// Print as JSON.
    #[arg(long, env = "LATENTD_JSON", action = ArgAction::SetTrue)]
    pub json: bool,
}
