//! `latentd config show`: the settings in force, and where each comes from.

use crate::args::{Kind, LogArgs, Setting, ShowArgs};
use crate::config::{ConfigError, ServeConfig};
use serde_json::{Value, json};

/// Prints every setting, then checks that they hold together.
///
/// # Errors
/// `serve` would refuse them.
pub(crate) fn show(args: ShowArgs, log: LogArgs) -> Result<(), ConfigError> {
    if args.json {
        let settings: Vec<_> = args.settings.iter().map(as_json).collect();
        println!("{:#}", json!({ "settings": settings }));
    } else {
        print!("{}", table(&args.settings));
    }
    ServeConfig::resolve(args.serve, log).map(drop)
}

/// Lines of a configuration file, each with its source in a comment. What has no value, or must not be shown, is a comment.
fn table(settings: &[Setting]) -> String {
    let lines: Vec<_> = settings.iter().map(|setting| (line(setting), setting.source.to_string())).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count().min(60)).max().unwrap_or_default();
    lines.iter().map(|(line, source)| format!("{line:<width$} # {source}\n")).collect()
}

fn line(setting: &Setting) -> String {
    let Setting { name, kind, values, is_secret, source: _ } = setting;
    let texts = |values: &[String]| -> Vec<_> { values.iter().map(|text| quoted(text)).collect() };
    match values.as_deref() {
        None | Some([]) => format!("# {name} is not set"),
        Some(_) if *is_secret => format!("# {name} is hidden"),
        Some(values) if *kind == Kind::List => format!("{name} = [{}]", texts(values).join(", ")),
        Some([value, ..]) if *kind == Kind::Text => format!("{name} = {}", quoted(value)),
        Some([value, ..]) => format!("{name} = {value}"),
    }
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn as_json(setting: &Setting) -> Value {
    let Setting { name, kind, values, is_secret, source } = setting;
    let value = match values.as_deref() {
        _ if *is_secret => Value::Null,
        None | Some([]) => Value::Null,
        Some(values) if *kind == Kind::List => json!(values),
        Some([value, ..]) if *kind == Kind::Text => json!(value),
        Some([value, ..]) => value.parse().unwrap_or_else(|_| json!(value)),
    };
    let is_hidden = *is_secret && values.is_some();
    json!({ "name": name, "value": value, "hidden": is_hidden, "source": source.to_string() })
}
