//! Flags of `latentd bundle` and `latentd unbundle`.

use super::HubArgs;
use clap::Args;
use std::path::PathBuf;

/// Flags of `latentd bundle`.
#[derive(Debug, Clone, Args)]
pub struct BundleArgs {
    /// The model, as `--model` of `serve` takes it; one of the Hugging Face hub is pulled unless it is in the cache.
    #[arg(value_name = "[NAME=]MODEL")]
    pub model: String,
    /// The bundle to make; nothing may be there yet.
    #[arg(short, long, env = "LATENTD_OUTPUT", value_name = "FILE")]
    pub output: PathBuf,
    /// Directory of the text encoders that a checkpoint file lacks, as `serve` takes it.
    #[arg(long, env = "LATENTD_TEXT_ENCODERS", value_name = "DIR")]
    pub text_encoders: Option<PathBuf>,
    /// The safety checker that goes along, as `serve` takes it: `auto` is the model's own, or else `falconsai`.
    #[arg(
        long,
        env = "LATENTD_SAFETY_CHECKER",
        default_value = "auto",
        value_name = "auto|falconsai|compvis|none|DIR"
    )]
    pub safety_checker: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub hub: HubArgs,
}

/// Flags of `latentd unbundle`.
#[derive(Debug, Clone, Args)]
pub struct UnbundleArgs {
    /// A bundle that `latentd bundle` made.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}
