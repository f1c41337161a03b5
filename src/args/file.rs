//! The configuration file: flags of `serve` and `worker` by their long names, checked by the parser of the command line.

use super::kind::{Kind, settings};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A configuration file whose every entry is a setting with a value of its type.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// One setting of the file.
#[derive(Debug)]
struct Entry {
    name: String,
    kind: Kind,
    values: Vec<String>,
    line: usize,
}

impl ConfigFile {
    /// Reads and checks the file; `root` is the whole command line.
    pub(super) fn read(path: &Path, root: &Command) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong(format!("--config {}: {error}", path.display())))?;
        let place = |start: usize| format!("{}:{}", path.display(), line(&text, start));
        let table = DeTable::parse(&text).map_err(|error| {
            wrong(format!("{}: {}", place(error.span().unwrap_or_default().start), error.message()))
        })?;
        let known = settings(root);
        let entry = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
            let start = name.span().start;
            entry(name.get_ref(), value.get_ref(), line(&text, start), &known)
                .map_err(|why| wrong(format!("{}: {why}", place(start))))
        };
        let entries = table.get_ref().iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { path: path.to_owned(), entries })
    }

    /// Makes the values of the file the defaults of their flags, in every command that has the same flag.
    pub(super) fn apply(&self, command: Command) -> Command {
        let with_default = |arg: Arg| match self.entry(&arg) {
            Some(entry) => arg.default_values(entry.values.clone()),
            None => arg,
        };
        command.mut_args(with_default).mut_subcommands(|command| self.apply(command))
    }

    /// Where the file sets a flag.
    pub(super) fn place(&self, arg: &Arg) -> Option<(&Path, usize)> {
        Some((&self.path, self.entry(arg)?.line))
    }

    /// A flag of another command may have the name and be of another kind.
    fn entry(&self, arg: &Arg) -> Option<&Entry> {
        let is_it = |entry: &&Entry| arg.get_long() == Some(&entry.name) && Kind::of(arg) == entry.kind;
        self.entries.iter().find(is_it)
    }
}

fn wrong(message: String) -> Error {
    Error::raw(ErrorKind::ValueValidation, message + "\n")
}

/// The number of a line, from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Checks an entry; `Err` says what to change.
fn entry(name: &str, value: &DeValue<'_>, line: usize, known: &[Arg]) -> Result<Entry, String> {
    let Some(arg) = known.iter().find(|arg| arg.get_long() == Some(name)) else {
        return Err(unknown(name, known));
    };
    let kind = Kind::of(arg);
    let values = values(kind, value)
        .ok_or_else(|| format!("{name}: give {}, not {}", kind.wanted(), described(value)))?;
    for value in values.iter().filter(|_| kind != Kind::Switch) {
        check(arg, value)?;
    }
    Ok(Entry { name: name.to_owned(), kind, values, line })
}

/// The words of the command line for a value; `None`: it is of another type.
fn values(kind: Kind, value: &DeValue<'_>) -> Option<Vec<String>> {
    let integer = || value.as_integer().filter(|it| it.radix() == 10).map(|it| it.as_str().to_owned());
    let float = || value.as_float().map(|it| it.as_str().to_owned());
    let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
    match kind {
        Kind::Switch => value.as_bool().map(|is_on| vec![is_on.to_string()]),
        Kind::Integer => integer().map(|it| vec![it]),
        Kind::Number => integer().or_else(float).map(|it| vec![it]),
        Kind::Text => text(value).or_else(integer).or_else(float).map(|it| vec![it]),
        Kind::List => match value.as_array() {
            Some(array) => array.iter().map(|value| text(value.get_ref())).collect(),
            None => text(value).map(|it| vec![it]),
        },
    }
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array of other values",
        DeValue::Table(_) => "a table",
    }
}

/// What the parser of the command line says of a value.
fn check(arg: &Arg, value: &str) -> Result<(), String> {
    let long = arg.get_long().unwrap_or_default().to_owned();
    let word = format!("--{long}={value}");
    let mut alone = Arg::new("setting").long(long).value_parser(arg.get_value_parser().clone());
    if let Some(names) = arg.get_value_names() {
        alone = alone.value_names(names);
    }
    let command = Command::new("latentd").no_binary_name(true).arg(alone);
    command.try_get_matches_from([word]).map(drop).map_err(|error| {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        first.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// The error of a name that is no setting, with the nearest one: the parser's own suggestion for a wrong flag.
fn unknown(name: &str, known: &[Arg]) -> String {
    let flags = known.iter().filter_map(|arg| {
        let long = arg.get_long()?.to_owned();
        Some(Arg::new(long.clone()).long(long))
    });
    let command = Command::new("latentd").no_binary_name(true).args(flags);
    let refused = command.try_get_matches_from([format!("--{name}")]).err();
    let nearest = refused.as_ref().and_then(|error| match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(flag)) => flag.strip_prefix("--"),
        _ => None,
    });
    match nearest {
        Some(nearest) => format!("there is no setting `{name}`: did you mean `{nearest}`?"),
        None => format!("there is no setting `{name}`: settings are the flags of `latentd serve`"),
    }
}
