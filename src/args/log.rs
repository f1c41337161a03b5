//! Flags that say what is logged, and how.

use clap::Args;

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What to log: `error`, `warn`, `info`, `debug`, or directives such as `latentd=debug`.
    #[arg(long, env = "LATENTD_LOG", default_value = "info", global = true, value_name = "FILTER")]
    pub log: String,
}
