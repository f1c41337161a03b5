//! From command line, environment and configuration file to the arguments of a command: a flag goes before its variable,
//! that before the file, and the file before the default.

use super::environment;
use super::file::ConfigFile;
use super::settings::in_force;
use super::{Cli, Command, ConfigCommand};
use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Reads the command line; ends the process where it cannot be read, or asks for help.
///
/// A negative number in place of a value is that value: a flag that takes none refuses it by name.
pub fn parse() -> Cli {
    read(&std::env::args_os().collect::<Vec<_>>()).unwrap_or_else(|error| error.exit())
}

fn read(words: &[OsString]) -> Result<Cli, clap::Error> {
    // What other programs read is not wrapped.
    let width = if std::io::stdout().is_terminal() { None } else { Some(0) };
    let complete = with_negative_numbers(Cli::command());
    let complete = width.into_iter().fold(complete, clap::Command::term_width);
    let mut command = without_empty_variables(complete.clone());
    let matches = match command.clone().try_get_matches_from(words) {
        // Help names every variable.
        Err(error) if is_help(error.kind()) => return Err(help(complete, words).unwrap_or(error)),
        other => other?,
    };
    let file =
        matches.get_one::<PathBuf>("config").map(|path| ConfigFile::read(path, &complete)).transpose()?;
    let matches = match &file {
        None => matches,
        Some(file) => {
            command = file.apply(command);
            command.clone().try_get_matches_from(words)?
        }
    };
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    if let Command::Config(ConfigCommand::Show(show)) = &mut cli.command {
        show.settings = in_force(&complete, &matches, file.as_ref());
    }
    Ok(cli)
}

fn is_help(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
}

fn help(complete: clap::Command, words: &[OsString]) -> Option<clap::Error> {
    complete.try_get_matches_from(words).err()
}

fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let takes_value = |arg: &Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    command
        .mut_args(move |arg| if takes_value(&arg) { arg.allow_negative_numbers(true) } else { arg })
        .mut_subcommands(with_negative_numbers)
}

/// Without the variables that are empty.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &Arg| arg.get_env().is_some_and(environment::is_empty);
    command
        .mut_args(move |arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}
