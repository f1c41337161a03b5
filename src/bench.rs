//! `latentd bench`: measures a device (`denoise`), a model (`pipeline`) or a running server (`load`), and shows what was
//! measured (`compare`, `report`).
//!
//! Every measurement ends as a table for people or as JSON for machines, with what is needed to repeat it.

mod chart;
mod compare;
mod denoise;
mod load;
mod machine;
mod pipeline;
mod results;
mod rival;
mod shortcuts;
mod stats;

use crate::args::{BenchCommand, ReportArgs};
use crate::config::ConfigError;
use anyhow::Context;
use serde::Serialize;
use std::path::Path;
use tokio::runtime::Runtime;

/// Measures.
///
/// # Errors
/// A [`ConfigError`] for a command line that cannot be carried out; otherwise one line that says what failed.
pub(crate) fn run(command: BenchCommand, runtime: &Runtime) -> anyhow::Result<()> {
    match command {
        BenchCommand::Denoise(args) => denoise::run(args, runtime),
        BenchCommand::Pipeline(args) => pipeline::run(args, runtime),
        BenchCommand::Load(args) => load::run(args, runtime),
        BenchCommand::Compare(args) => compare::run(&args),
        BenchCommand::Report(args) => compare::report(&args),
    }
}

/// Prints the table, and writes JSON where it was asked for; `-` prints it instead.
fn publish(report: &impl Serialize, table: &str, args: &ReportArgs) -> anyhow::Result<()> {
    match args.json.as_deref() {
        None => print!("{table}"),
        Some(path) if path == Path::new("-") => println!("{}", serde_json::to_string_pretty(report)?),
        Some(path) => {
            print!("{table}");
            let text = serde_json::to_string_pretty(report)? + "\n";
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// One row of a table.
fn row(label: &str, text: &str) -> String {
    format!("  {label:<12}{text}\n")
}

/// Refuses a number that is not positive.
fn at_least_one(flag: &str, value: usize) -> Result<(), ConfigError> {
    if value == 0 { Err(ConfigError(format!("{flag} 0: give at least 1"))) } else { Ok(()) }
}

/// What the model cannot do is the command line's fault; the rest is not.
fn refusal(error: latentd_models::Error) -> anyhow::Error {
    match error {
        latentd_models::Error::Request(words) => ConfigError(words).into(),
        other => other.into(),
    }
}
