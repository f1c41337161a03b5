//! The command line of `latentd doctor`.

use super::ServeArgs;
use clap::{ArgAction, Args};

/// Flags of `latentd doctor`: those of `serve`, whose start it judges.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Print as JSON.
    #[arg(long, env = "LATENTD_JSON", action = ArgAction::SetTrue)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub serve: ServeArgs,
}
