//! The program: reads the command line, carries it out, and turns the outcome into an exit code:
//! 0 done, 2 usage, 1 anything else.
#![forbid(unsafe_code)]

use clap::Parser;
use latentd::args::Cli;
use latentd::config::ConfigError;
use latentd::printable::printable_chain;
use std::process::ExitCode;

fn main() -> ExitCode {
    match latentd::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latentd: {}", printable_chain(&error));
            if error.is::<ConfigError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
