//! The program: reads the command line, carries it out, and turns the outcome into an exit code:
//! 0 done, 2 usage, 1 anything else; of `run` the program's own, 127 or 126 where it could not be started.
#![forbid(unsafe_code)]

use latentd::NotStarted;
use latentd::args;
use latentd::config::ConfigError;
use latentd::printable::printable_chain;
use mimalloc::MiMalloc;
use std::process::ExitCode;

/// Gives memory back to the system; glibc keeps what clients once made a process take.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match latentd::run(args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latentd: {}", printable_chain(error.as_ref()));
            match error.downcast_ref::<NotStarted>() {
                Some(program) => ExitCode::from(program.exit_code()),
                None if error.is::<ConfigError>() => ExitCode::from(2),
                None => ExitCode::FAILURE,
            }
        }
    }
}
