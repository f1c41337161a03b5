//! The command line of `latentd doctor`.

use super::{EngineArgs, SafetyArgs, StoreArgs};
use clap::{ArgAction, Args};
use std::net::SocketAddr;
use std::path::PathBuf;

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
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub hugging_face: HuggingFaceArgs,
}

/// Hugging Face's own variables.
#[derive(Debug, Clone, Args)]
pub struct HuggingFaceArgs {
    /// Folder of Hugging Face's programs.
    #[arg(long, env = "HF_HOME", hide = true)]
    pub hf_home: Option<PathBuf>,
    /// Folder of fetched models.
    #[arg(long, env = "HF_HUB_CACHE", hide = true)]
    pub hf_hub_cache: Option<PathBuf>,
    /// Token for gated models.
    #[arg(long, env = "HF_TOKEN", hide = true, hide_env_values = true)]
    pub hf_token: Option<String>,
}
