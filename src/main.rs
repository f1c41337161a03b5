//! The program: reads the command line, carries it out, and turns the outcome into an exit code:
//! 0 done, 2 usage, 1 anything else; of `run` the program's own, 127 or 126 where it could not be started.
#![forbid(unsafe_code)]

use jiff::Timestamp;
use latentd::NotStarted;
use latentd::args::{self, LogFormat};
use latentd::config::ConfigError;
use latentd::printable::printable_chain;
use mimalloc::MiMalloc;
use serde_json::json;
use std::process::ExitCode;

/// Gives memory back to the system; glibc keeps what clients once made a process take.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = args::parse();
    let log_format = cli.log.log_format;
    match latentd::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", last_line(log_format, &printable_chain(error.as_ref())));
            match error.downcast_ref::<NotStarted>() {
                Some(program) => ExitCode::from(program.exit_code()),
                None if error.is::<ConfigError>() => ExitCode::from(2),
                None => ExitCode::FAILURE,
            }
        }
    }
}

/// The error with which the program ends, in the form of its log. It is written whatever the log leaves out.
fn last_line(format: LogFormat, message: &str) -> String {
    match format {
        LogFormat::Text => format!("latentd: {message}"),
        LogFormat::Json => {
            let timestamp = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            json!({ "timestamp": timestamp, "level": "ERROR", "target": "latentd", "message": message })
                .to_string()
        }
    }
}
