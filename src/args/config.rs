//! Flags of `latentd config`.

use super::{ServeArgs, Setting};
use clap::{ArgAction, Args, Subcommand};

/// Subcommands of `latentd config`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting of `serve` that is in force and where it comes from: a flag, a variable, a line of the
    /// configuration file, or the default. Takes the flags of `serve`. The output without its comments is a configuration
    /// file; secrets are left out.
    Show(Box<ShowArgs>),
}

/// Flags of `latentd config show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// Print as JSON.
    #[arg(long, env = "LATENTD_JSON", action = ArgAction::SetTrue)]
    pub json: bool,
    /// Every setting in force.
    #[arg(skip)]
    pub settings: Vec<Setting>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub serve: ServeArgs,
}
