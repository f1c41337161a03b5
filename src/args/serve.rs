//! Flags of `latentd serve` and `latentd worker`.
//!
//! Each flag that is in no group names its heading, for else it would be under that of the group before it.

use super::{
    AccessArgs, AdapterArgs, EngineArgs, FetchArgs, InterceptArgs, OtlpArgs, RetentionArgs, SafetyArgs,
    SigningArgs, StoreArgs, TlsArgs,
};
use clap::{ArgAction, Args};
use std::net::SocketAddr;

/// Heading of what the port is.
const SERVER: &str = "Server";

/// Heading of worker processes.
const WORKERS: &str = "Workers";

/// Heading of what is accepted, and how it is answered.
const REQUESTS: &str = "Requests";

/// Flags of `latentd serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Address to listen on.
    #[arg(
        long,
        env = "LATENTD_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS",
        help_heading = SERVER
    )]
    pub listen: SocketAddr,
    /// URL under which clients reach the server, when it is not the one they send.
    #[arg(long, env = "LATENTD_PUBLIC_URL", value_name = "URL", help_heading = SERVER)]
    pub public_url: Option<String>,
    /// Addresses or blocks of proxies in front of the server, separated by commas. What they say in `X-Forwarded-Proto`,
    /// `-Host`, `-Port` and `-Prefix`, or in `Forwarded`, is believed.
    #[arg(
        long,
        env = "LATENTD_TRUSTED_PROXY",
        value_delimiter = ',',
        value_name = "CIDR",
        help_heading = SERVER
    )]
    pub trusted_proxy: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub tls: TlsArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub engine: EngineArgs,
    /// Worker processes: `auto` is one per device, `0` leaves the work to `latentd worker` elsewhere.
    #[arg(
        long,
        env = "LATENTD_WORKERS",
        default_value = "auto",
        value_name = "auto|N",
        help_heading = WORKERS
    )]
    pub workers: String,
    /// Memory that the models of one worker may take: `auto`, or as in `40GB`. Of several models those are kept that were
    /// used last; `auto` is what is free when a worker starts, but for a reserve.
    #[arg(
        long,
        env = "LATENTD_MEMORY_BUDGET",
        default_value = "auto",
        value_name = "auto|SIZE",
        help_heading = WORKERS
    )]
    pub memory_budget: String,
    /// Seconds without a sign of life from the engine after which it counts as hung: its worker is killed and replaced, and
    /// the request tried again. `auto` is generous by the model's size for the first step, and later 20 times the slowest
    /// step so far, 30 seconds at least.
    #[arg(
        long,
        env = "LATENTD_STEP_TIMEOUT",
        default_value = "auto",
        value_name = "auto|SECONDS",
        help_heading = WORKERS
    )]
    pub step_timeout: String,
    /// Seconds without a sign of life after which a worker process that is stopped or stuck is killed and replaced.
    #[arg(
        long,
        env = "LATENTD_WORKER_TIMEOUT",
        default_value_t = 20,
        value_parser = clap::value_parser!(u64).range(1..),
        value_name = "SECONDS",
        help_heading = WORKERS
    )]
    pub worker_timeout: u64,
    /// Seconds that a running request gets to finish when the server is stopped.
    #[arg(
        long,
        env = "LATENTD_DRAIN_TIMEOUT",
        default_value_t = 30,
        value_name = "SECONDS",
        help_heading = WORKERS
    )]
    pub drain_timeout: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub safety: SafetyArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub store: StoreArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub signing: SigningArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub retention: RetentionArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub access: AccessArgs,
    /// Waiting requests above which new ones are refused.
    #[arg(
        long,
        env = "LATENTD_MAX_QUEUE",
        default_value_t = 10_000,
        value_name = "N",
        help_heading = REQUESTS
    )]
    pub max_queue: u64,
    /// Largest file that a client may send, in MiB.
    #[arg(
        long,
        env = "LATENTD_MAX_UPLOAD",
        default_value_t = 4096,
        value_name = "MIB",
        help_heading = REQUESTS
    )]
    pub max_upload: u64,
    /// Uploads that clients announced and have not sent, above which new ones are refused.
    #[arg(
        long,
        env = "LATENTD_MAX_OPEN_UPLOADS",
        default_value_t = 1000,
        value_name = "N",
        help_heading = REQUESTS
    )]
    pub max_open_uploads: u64,
    /// Free disk space, as in `500MB`, below which no new request or file is accepted, on the disks of the database and of
    /// the files.
    #[arg(
        long,
        env = "LATENTD_MIN_FREE_DISK",
        default_value = "8MB",
        value_name = "SIZE",
        help_heading = REQUESTS
    )]
    pub min_free_disk: String,
    /// Refuse invalid input when it is submitted; fal accepts it and fails the request.
    #[arg(long, env = "LATENTD_VALIDATE_ON_SUBMIT", action = ArgAction::SetTrue, help_heading = REQUESTS)]
    pub validate_on_submit: bool,
    /// Leave prompt, negative prompt, seed, steps, guidance and model out of image files, which otherwise have them as text
    /// (PNG) or XMP (JPEG, WebP). It counts when a request is accepted.
    #[arg(long, env = "LATENTD_NO_METADATA", action = ArgAction::SetTrue, help_heading = REQUESTS)]
    pub no_metadata: bool,
    /// Seconds after which the answer to a run begins before its result is there: Node sends a run again that has
    /// no answer after 300, and proxies may wait less. What fails later has status 200 and a body that is no JSON.
    #[arg(
        long,
        env = "LATENTD_RUN_HEADERS_AFTER",
        default_value_t = 240,
        value_name = "SECONDS",
        help_heading = REQUESTS
    )]
    pub run_headers_after: u64,
    /// Address, block (`10.0.0.0/8`) or host name of webhook receivers that are not on the public internet; may be
    /// given several times. This machine is allowed when the server listens on a loopback address.
    #[arg(
        long,
        env = "LATENTD_WEBHOOK_ALLOW",
        value_delimiter = ',',
        value_name = "HOST|CIDR",
        help_heading = super::CONNECTIONS
    )]
    pub webhook_allow: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub fetch: FetchArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub adapters: AdapterArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub intercept: InterceptArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub otlp: OtlpArgs,
}

/// Flags of `latentd worker`.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub engine: EngineArgs,
    /// Memory that the models of one worker may take: `auto`, or as in `40GB`. Of several models those are kept that were
    /// used last; `auto` is what is free when a worker starts, but for a reserve.
    #[arg(
        long,
        env = "LATENTD_MEMORY_BUDGET",
        default_value = "auto",
        value_name = "auto|SIZE",
        help_heading = WORKERS
    )]
    pub memory_budget: String,
    /// Seconds without a sign of life from the engine after which it counts as hung: its worker is killed and replaced, and
    /// the request tried again. `auto` is generous by the model's size for the first step, and later 20 times the slowest
    /// step so far, 30 seconds at least.
    #[arg(
        long,
        env = "LATENTD_STEP_TIMEOUT",
        default_value = "auto",
        value_name = "auto|SECONDS",
        help_heading = WORKERS
    )]
    pub step_timeout: String,
    /// Seconds that a running request gets to finish when the worker is stopped.
    #[arg(
        long,
        env = "LATENTD_DRAIN_TIMEOUT",
        default_value_t = 30,
        value_name = "SECONDS",
        help_heading = WORKERS
    )]
    pub drain_timeout: u64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub safety: SafetyArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub store: StoreArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub fetch: FetchArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub adapters: AdapterArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub otlp: OtlpArgs,
    /// Set by `serve`: the worker's name; it then takes orders on its input and ends with it.
    #[arg(long, hide = true)]
    pub supervised_as: Option<String>,
}
