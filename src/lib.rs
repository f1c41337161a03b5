//! `latentd`: runs Stable Diffusion 3.5 on your own machine and speaks the fal.ai model API.
//!
//! The map, in the order a request meets the parts:
//! - [`args`], [`config`]: the command line, spelled, then checked;
//! - [`serve`](mod@serve), `supervisor`: the server process, and the workers it keeps alive;
//! - the package `latentd-fal`: fal's protocol over HTTP; the only one that knows its wire names;
//! - [`intercept`]: the same service under fal's own names, for programs that are not changed;
//! - `isolate`: programs for which that is fal, and which reach nothing else;
//! - [`queue`] and what else is kept, from the package `latentd-queue`, the only one that knows SQL;
//! - [`worker`]: takes requests from the queue, runs them on an [`engine`], stores the files;
//! - [`webhooks`]: delivers the results of requests to receivers; [`signing`] keeps the key;
//! - the package `latentd-egress`: which addresses a client's URL may have, and calls to them;
//! - [`identity`]: which database and which folder belong together; [`sweep`]: what is removed when;
//! - [`storage`]: where files live; the package `latentd-request`: what a valid request and its output are;
//! - [`printable`] makes text of
//!   unknown origin safe to print.
//!
//! Beside the server: `backup` makes and reads archives of what it keeps, `bundle` of models; `hub_models` downloads models by the package
//! `latentd-hub`, which `models_command` shows and verifies; `checker` knows where safety checkers are; `generate`
//! generates images without a server, `bench` measures.
#![forbid(unsafe_code)]

// First, for its macros are known from here on.
#[macro_use]
mod output;
mod progress;

pub mod adapters;
mod allocator;
pub mod args;
mod backup;
mod bench;
mod bundle;
mod checker;
pub mod config;
mod config_command;
mod device_report;
mod doctor;
pub mod engine;
mod generate;
mod hub_models;
mod image_file;
pub mod intercept;
mod isolate;
mod keys_command;
mod memory_budget;
mod memory_check;
pub mod model_error;
mod models_command;
mod new_file;
pub mod serve;
mod service_manager;
mod supervisor;
mod system;
mod tls;
pub mod webhooks;
pub mod worker;

pub use isolate::NotStarted;
pub use latentd_hub as hub;
pub use latentd_queue::{
    data_dir, disk, ended_workers, fault, identity, keys, printable, queue, signing, storage, storage_limit,
    sweep,
};

use args::{Cli, Command, ConfigCommand, LogArgs, LogFormat};
use config::{ConfigError, ServeConfig, WorkerConfig};
use serve::ServeError;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Carries out a command.
///
/// # Errors
/// A [`ConfigError`] for a command line that cannot be carried out; otherwise what failed, in one line.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    carry_out(cli).map_err(model_error::with_advice)
}

fn carry_out(cli: Cli) -> anyhow::Result<()> {
    log_to_stderr(&cli.log)?;
    if args::key_is_on_the_command_line() {
        tracing::warn!(
            "--api-key shows in the list of processes to every user of this machine: set LATENTD_API_KEY, or put keys \
             into a file for --api-key-file"
        );
    }
    match cli.command {
        Command::Serve(args) => {
            let config = ServeConfig::resolve(*args, cli.log)?;
            runtime()?.block_on(serve::serve(config)).map_err(|error| match error {
                ServeError::Config(error) => error.into(),
                other => other.into(),
            })
        }
        Command::Worker(args) => {
            let mut config = WorkerConfig::resolve(args)?;
            runtime()?.block_on(async {
                checker::ensure_downloaded(&config.hub, &config.safety, &mut config.models).await?;
                Ok(worker::run_process(config).await?)
            })
        }
        Command::Generate(args) => generate::run(args, &runtime()?),
        Command::Bench(command) => bench::run(command, &runtime()?),
        Command::Keys(command) => runtime()?.block_on(keys_command::run(command)),
        Command::Backup(args) => runtime()?.block_on(backup::backup(args)),
        Command::Restore(args) => runtime()?.block_on(backup::restore(args)),
        Command::Bundle(args) => bundle::bundle(args, &runtime()?),
        Command::Unbundle(args) => bundle::unbundle(args, &runtime()?),
        Command::Doctor(args) => doctor::run(*args, cli.log),
        Command::Config(ConfigCommand::Show(args)) => Ok(config_command::show(*args, cli.log)?),
        Command::Completions { shell } => {
            print!("{}", args::completions(shell));
            Ok(())
        }
        Command::Man { directory } => args::write_manual(&directory)
            .map_err(|error| anyhow::anyhow!("{}: {error}", directory.display())),
        Command::Env(args) => runtime()?.block_on(intercept::env::run(args)),
        Command::Run(args) => isolate::run(args),
        Command::Relay(args) => isolate::relay(args, runtime),
        Command::Models(command) => runtime()?.block_on(models_command::run(command)),
    }
}

/// Two threads are plenty: neither process computes on them.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

fn log_to_stderr(LogArgs { log: filter, log_format }: &LogArgs) -> Result<(), ConfigError> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| ConfigError(format!("--log {filter}: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // It would report a line that could not be written to standard error too, and panic.
    let builder = builder.log_internal_errors(false);
    match log_format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
    }
    Ok(())
}
