//! The program: reads the command line, carries it out, and turns the outcome into an exit code:
//! 0 done, 2 usage, 1 anything else.
#![forbid(unsafe_code)]

use clap::Parser;
use latentd::args::Cli;
use latentd::config::ConfigError;
use latentd::printable::printable_chain;
use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Gives memory back to the system; glibc keeps what clients once made a process take.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match latentd::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latentd: {}", printable_chain(error.as_ref()));
            if error.is::<ConfigError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
