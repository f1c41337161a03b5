//! Flags that say what is logged, and how.

use clap::{Args, ValueEnum};

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Configuration and log")]
pub struct LogArgs {
    /// What to log: `error`, `warn`, `info`, `debug`, or directives such as `latentd=debug`.
    #[arg(long, env = "LATENTD_LOG", default_value = "info", global = true, value_name = "FILTER")]
    pub log: String,
    /// Form of the log on standard error, a line for each event: text for people, or a JSON object for programs.
    #[arg(
        long,
        env = "LATENTD_LOG_FORMAT",
        default_value = "text",
        global = true,
        value_enum,
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl LogFormat {
    /// As the flag takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
