//! The settings in force, each with its value and where that comes from.

use super::default_data_dir;
use super::file::ConfigFile;
use super::kind::{Kind, settings};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use std::fmt;
use std::path::PathBuf;

/// One setting in force.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The long name of its flag.
    pub name: String,
    /// Its type.
    pub kind: Kind,
    /// Its values; `None`: it has none.
    pub values: Option<Vec<String>>,
    /// Whether the values must not be shown.
    pub is_secret: bool,
    /// Where it comes from.
    pub source: Source,
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// A variable of this name.
    Variable(String),
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// None of these.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => out.write_str("flag"),
            Self::Variable(name) => out.write_str(name),
            Self::File(path, line) => write!(out, "{}:{line}", path.display()),
            Self::Default => out.write_str("default"),
        }
    }
}

/// The settings of `serve` as `matches`, those of the whole command line, have them.
pub(super) fn in_force(root: &Command, matches: &ArgMatches, file: Option<&ConfigFile>) -> Vec<Setting> {
    let mut leaf = matches;
    while let Some((_, below)) = leaf.subcommand() {
        leaf = below;
    }
    settings(root).iter().map(|arg| setting(arg, leaf, file)).collect()
}

fn setting(arg: &Arg, matches: &ArgMatches, file: Option<&ConfigFile>) -> Setting {
    let name = arg.get_long().unwrap_or_default().to_owned();
    let id = arg.get_id().as_str();
    let values = matches.try_get_raw(id).ok().flatten();
    let values: Option<Vec<_>> =
        values.map(|values| values.map(|value| value.to_string_lossy().into_owned()).collect());
    let source = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => Source::Flag,
        Some(ValueSource::EnvVariable) => {
            Source::Variable(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
        }
        _ => match file.and_then(|file| file.place(arg)) {
            Some((path, line)) => Source::File(path.to_owned(), line),
            None => Source::Default,
        },
    };
    let is_data_dir = name == "data-dir";
    let values = values.or_else(|| is_data_dir.then(|| vec![default_data_dir().display().to_string()]));
    Setting { kind: Kind::of(arg), is_secret: arg.is_hide_env_values_set(), name, values, source }
}
