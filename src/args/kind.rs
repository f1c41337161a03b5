//! The settings that a configuration file may have, and their types.

use clap::{Arg, ArgAction, Command};
use std::any::TypeId;

/// The flag that names the configuration file.
const CONFIG: &str = "config";

/// The type of a setting in a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On or off.
    Switch,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Text, which may be a number.
    Text,
    /// Several texts.
    List,
}

impl Kind {
    pub(super) fn of(arg: &Arg) -> Self {
        let value = arg.get_value_parser().type_id();
        let is_a = |types: &[TypeId]| types.iter().any(|known| value == *known);
        match arg.get_action() {
            ArgAction::SetTrue | ArgAction::SetFalse => Self::Switch,
            ArgAction::Append => Self::List,
            _ if is_a(&[TypeId::of::<u64>(), TypeId::of::<u32>(), TypeId::of::<usize>()]) => Self::Integer,
            _ if is_a(&[TypeId::of::<f64>()]) => Self::Number,
            _ => Self::Text,
        }
    }

    /// What a file should have.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List => "a string or an array of strings",
        }
    }
}

/// The flags that a configuration file may set: those of `serve`, `worker` and every command that have a variable.
pub(super) fn settings(root: &Command) -> Vec<Arg> {
    let commands = ["serve", "worker"].into_iter().filter_map(|name| root.find_subcommand(name));
    let all = commands.flat_map(Command::get_arguments).chain(root.get_arguments());
    let mut settings: Vec<Arg> = Vec::new();
    for arg in all.filter(|arg| arg.get_env().is_some() && arg.get_long().is_some_and(|long| long != CONFIG))
    {
        if settings.iter().all(|known| known.get_long() != arg.get_long()) {
            settings.push(arg.clone());
        }
    }
    settings
}
