//! `latentd doctor`: what this machine has, whether `serve` would start with these flags, and if not, what to change.

mod devices;
mod memory;
mod models;
mod stores;

use crate::args::{DoctorArgs, LogArgs};
use crate::config::ServeConfig;
use serde::Serialize;
use std::fmt::Write;

/// Columns of the table.
const WIDTH: usize = 80;

/// Columns before what was found.
const INDENT: usize = 19;

/// The judgement of one finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Good,
    /// `serve` starts all the same.
    Warning,
    /// `serve` would not start.
    Wrong,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    about: String,
    state: State,
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn good(about: &str, found: impl Into<String>) -> Self {
        Self { about: about.into(), state: State::Good, found: found.into(), advice: None }
    }

    fn warning(about: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Warning, advice: Some(advice.into()), ..Self::good(about, found) }
    }

    fn wrong(about: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Wrong, advice: Some(advice.into()), ..Self::good(about, found) }
    }

    /// An error whose text has the advice.
    fn error(about: &str, error: &dyn std::fmt::Display) -> Self {
        Self { state: State::Wrong, ..Self::good(about, error.to_string()) }
    }
}

/// Examines this machine, prints the findings, and fails if `serve` would not start.
///
/// # Errors
/// `serve` would not start.
pub(crate) fn run(args: DoctorArgs, log: LogArgs) -> anyhow::Result<()> {
    let json = args.json;
    let findings = examine(args, log);
    if json {
        println!("{:#}", serde_json::json!({ "findings": findings }));
    } else {
        print!("{}", table(&findings));
    }
    let wrong = findings.iter().filter(|finding| finding.state == State::Wrong).count();
    anyhow::ensure!(wrong == 0, "`latentd serve` would not start: see the {wrong} marked with !!");
    Ok(())
}

fn examine(args: DoctorArgs, log: LogArgs) -> Vec<Finding> {
    let mut findings = vec![devices::program(), devices::processor(), devices::host()];
    findings.extend(devices::gpus(args.serve.engine.dtype == "fp8"));
    match ServeConfig::resolve(args.serve, log) {
        Ok(config) => {
            findings.extend(stores::data(&config.store));
            findings.extend(stores::bucket(&config.store));
            findings.extend(stores::hugging_face(&config.hub));
            findings.push(devices::open_files());
            findings.extend(stores::listen(&config));
            findings.extend(stores::certificate(&config));
            findings.push(stores::namespaces());
            findings.extend(models::all(&config));
        }
        Err(error) => {
            findings.extend([devices::open_files(), stores::namespaces()]);
            findings.push(Finding::error("configuration", &error));
        }
    }
    findings
}

/// Marks, names, and what was found, in 80 columns.
fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { about, state, found, advice } in findings {
        let mark = match state {
            State::Good => "ok",
            State::Warning => "-",
            State::Wrong => "!!",
        };
        let mut lines = wrapped(found);
        if let Some(advice) = advice {
            lines.extend(wrapped(&format!("-> {advice}")));
        }
        for (index, line) in lines.iter().enumerate() {
            let (mark, about) = if index == 0 { (mark, about.as_str()) } else { ("", "") };
            let _ = writeln!(text, "{mark:<2} {about:<15} {line}");
        }
    }
    text
}

/// Lines that fit beside the names; a word that is too long has a line of its own.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for part in text.lines() {
        let mut line = String::new();
        for word in part.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH - INDENT {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() || word.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_80_columns() {
        let long = "word ".repeat(40);
        let findings =
            [Finding::good("processor", long.trim()), Finding::wrong("port", "taken", "give --listen")];
        let text = table(&findings);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("\n!! port            taken\n                   -> give --listen\n"), "{text}");
    }
}
