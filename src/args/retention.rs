//! Flags that say how long finished requests are kept.

use clap::Args;

/// How long finished requests are kept.
#[derive(Debug, Clone, Args)]
pub struct RetentionArgs {
    /// Finished requests that are kept, with their results, logs and images; of more the oldest are deleted. 0 is no limit.
    #[arg(long, env = "LATENTD_KEEP_REQUESTS", default_value_t = 100_000, value_name = "N")]
    pub keep_requests: u64,
    /// Days after which a finished request is deleted, with its result, logs and images. 0 is no limit.
    #[arg(long, env = "LATENTD_KEEP_DAYS", default_value_t = 365, value_name = "DAYS")]
    pub keep_days: u64,
    /// Days after which the log of a finished request is deleted. 0 is no limit.
    #[arg(long, env = "LATENTD_KEEP_LOG_DAYS", default_value_t = 14, value_name = "DAYS")]
    pub keep_log_days: u64,
}
