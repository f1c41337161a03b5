//! `docs/flags.md`: every command with its flags, as clap's parser has them. This test writes the page; the committed one
//! must be the same.

use clap::{Arg, ArgAction, Command, CommandFactory};
use latentd::args::Cli;
use std::fmt::Write;
use std::path::Path;

/// How the page is written again.
const AGAIN: &str = "LATENTD_WRITE_DOCS=1 cargo test --test it flags_page";

/// The command whose flags others refer to.
const MAIN: &str = "serve";

#[test]
fn docs_flags_md_is_what_the_parser_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/flags.md");
    let page = page(&Cli::command());
    if std::env::var_os("LATENTD_WRITE_DOCS").is_some() {
        return std::fs::write(path, page).expect("the page");
    }
    let committed = std::fs::read_to_string(path).expect("the page");
    let differs = committed.lines().zip(page.lines()).position(|(old, new)| old != new);
    let line = differs.unwrap_or(committed.lines().count().min(page.lines().count())) + 1;
    assert!(committed == page, "docs/flags.md differs in line {line}: write it again by `{AGAIN}`");
}

fn page(root: &Command) -> String {
    let mut page = format!(
        "<!-- Written by a test from the parser of the command line: {AGAIN} -->\n\n\
         # Commands and flags\n\n\
         Each flag that has a variable can also be set by it, and by its long name in a [configuration\n\
         file](server.md#configuration-file), if `serve` or `worker` has it. A flag goes before its variable, that before the\n\
         file, and the file before the default. An empty variable counts as not set. `latentd COMMAND --help` prints the same\n\
         texts. [server.md](server.md) explains what needs more words.\n\n\
         ## Flags of every command\n\n"
    );
    let global: Vec<&Arg> = root.get_arguments().filter(|arg| arg.is_global_set()).collect();
    table(&mut page, &global);
    let main = root.find_subcommand(MAIN).expect("the command");
    for command in root.get_subcommands() {
        section(&mut page, command, main, "latentd");
    }
    page
}

/// A command and its subcommands.
fn section(page: &mut String, command: &Command, main: &Command, parent: &str) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    writeln!(page, "\n## `{name}`\n\n{}.", about(command).trim_end_matches('.')).expect("memory");
    if command.has_subcommands() {
        return command.get_subcommands().for_each(|command| section(page, command, main, &name));
    }
    let shown = |arg: &&Arg| !arg.is_hide_set() && !arg.is_global_set();
    let positional: Vec<&Arg> = command.get_positionals().filter(shown).collect();
    writeln!(page, "\n```\n{name} [FLAGS]{}\n```", usage(&positional)).expect("memory");
    if !positional.is_empty() {
        page.push_str("\n| Argument | |\n|---|---|\n");
        for arg in positional {
            writeln!(page, "| {} | {} |", code(&value_of(arg)), cell(&help(arg))).expect("memory");
        }
    }
    let is_of_main = |arg: &Arg| {
        let other = main.get_arguments().find(|other| other.get_long() == arg.get_long());
        command.get_name() != MAIN && other.is_some_and(|other| row(other) == row(arg))
    };
    let flags = command.get_arguments().filter(shown).filter(|arg| !arg.is_positional());
    let (known, own): (Vec<&Arg>, Vec<&Arg>) = flags.partition(|arg| is_of_main(arg));
    for heading in headings(&own) {
        let flags: Vec<&Arg> = own.iter().copied().filter(|arg| heading_of(arg) == heading).collect();
        match heading {
            "" => page.push('\n'),
            heading => write!(page, "\n### {heading}\n\n").expect("memory"),
        }
        table(page, &flags);
    }
    if !known.is_empty() {
        let names: Vec<String> = known.iter().map(|arg| code(&flag(arg))).collect();
        writeln!(page, "\nAs `latentd {MAIN}` has them: {}.", names.join(", ")).expect("memory");
    }
}

/// A command's arguments without its flags.
fn usage(positional: &[&Arg]) -> String {
    let word = |arg: &&Arg| {
        let is_several = arg.get_num_args().is_some_and(|count| count.max_values() > 1);
        let value = value_of(arg) + if is_several { "…" } else { "" };
        if arg.is_required_set() { format!(" {value}") } else { format!(" [{value}]") }
    };
    positional.iter().map(word).collect()
}

fn heading_of(arg: &Arg) -> &str {
    arg.get_help_heading().unwrap_or_default()
}

/// The headings of flags, in their order; the empty one, of flags without one, is first.
fn headings<'a>(flags: &[&'a Arg]) -> Vec<&'a str> {
    let mut headings = Vec::new();
    for heading in flags.iter().map(|arg| heading_of(arg)) {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    headings.sort_by_key(|heading| !heading.is_empty());
    headings
}

fn table(page: &mut String, flags: &[&Arg]) {
    page.push_str("| Flag | Variable | Default | |\n|---|---|---|---|\n");
    flags.iter().for_each(|arg| page.push_str(&row(arg)));
}

fn row(arg: &Arg) -> String {
    let mut name = flag(arg);
    if let Some(short) = arg.get_short() {
        name = format!("-{short}, {name}");
    }
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    if takes_value {
        name = format!("{name} {}", value_of(arg));
    }
    let variable = arg.get_env().map_or_else(String::new, |name| code(&name.to_string_lossy()));
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match (takes_value, defaults.join(",")) {
        (false, _) => "off".to_owned(),
        (true, none) if none.is_empty() => String::new(),
        (true, default) => code(&default),
    };
    format!("| {} | {variable} | {default} | {} |\n", code(&name), cell(&help(arg)))
}

fn flag(arg: &Arg) -> String {
    format!("--{}", arg.get_long().unwrap_or(arg.get_id().as_str()))
}

/// What stands for an argument's value: the values that it may have, if they are few, or its name.
fn value_of(arg: &Arg) -> String {
    let values = arg.get_possible_values();
    if !values.is_empty() {
        return values.iter().map(|value| value.get_name()).collect::<Vec<_>>().join("|");
    }
    let names = arg.get_value_names().unwrap_or_default();
    let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    if names.is_empty() { arg.get_id().as_str().to_uppercase() } else { names }
}

fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about());
    about.map_or_else(String::new, ToString::to_string)
}

fn help(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    help.map_or_else(String::new, ToString::to_string)
}

/// Text in a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}
