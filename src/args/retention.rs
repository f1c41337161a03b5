//! Flags that say how long finished requests and clients' files are kept, and how much of them.

use clap::Args;

/// What is kept of finished requests.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArgs {
    /// Finished requests that are kept, with their results, logs and images; of more the oldest are deleted. 0 is no limit.
    #[arg(long, env = "LATENTD_KEEP_REQUESTS", default_value_t = 100_000, value_name = "N")]
    pub keep_requests: u64,
    /// How long the result of a finished request is kept, with its images: `30d`, `12h`, or `forever` [default: 365d]. A
    /// request is deleted when neither result nor input is to be kept.
    #[arg(long, env = "LATENTD_KEEP_RESULTS", value_name = "TIME")]
    pub keep_results: Option<String>,
    /// How long inputs are kept: that of a finished request [default: 365d], and files that clients uploaded [default: as
    /// long as their upload asks]. `30d`, `12h`, or `forever`.
    #[arg(long, env = "LATENTD_KEEP_INPUTS", value_name = "TIME")]
    pub keep_inputs: Option<String>,
    /// How long the log of a finished request is kept: `30d`, `12h`, or `forever` [default: 14d].
    #[arg(long, env = "LATENTD_KEEP_LOGS", value_name = "TIME")]
    pub keep_logs: Option<String>,
    /// Size of all images and uploads together, as in `200GiB`, beyond which the oldest results are deleted, but none in
    /// its first hour. Where none can be deleted, new requests and files are refused [default: no limit].
    #[arg(long, env = "LATENTD_MAX_STORAGE", value_name = "SIZE")]
    pub max_storage: Option<String>,
    /// Older form of --keep-results and --keep-inputs in one, without uploads: days. 0 is no limit.
    #[arg(long, env = "LATENTD_KEEP_DAYS", value_name = "DAYS")]
    pub keep_days: Option<u64>,
    /// Older form of --keep-logs: days. 0 is no limit.
    #[arg(long, env = "LATENTD_KEEP_LOG_DAYS", value_name = "DAYS")]
    pub keep_log_days: Option<u64>,
}
