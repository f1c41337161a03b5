//! What is made of the command line for other programs: completions of shells, and manual pages.

use super::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// The name of the program.
const NAME: &str = "latentd";

/// The script by which a shell completes commands and flags.
pub(crate) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes the manual page of each command.
///
/// # Errors
/// The directory cannot be written.
pub(crate) fn write_manual(directory: &Path) -> std::io::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, Parser};

    fn each(command: &Command, visit: &mut impl FnMut(&Command)) {
        visit(command);
        command.get_subcommands().for_each(|command| each(command, visit));
    }

    #[test]
    fn every_example_of_the_help_can_be_typed() {
        let mut examples = Vec::new();
        each(&Cli::command(), &mut |command| {
            let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            examples.extend(text.lines().filter(|line| line.starts_with("  latentd ")).map(str::to_owned));
        });
        assert!(examples.len() > 10, "{examples:?}");
        for example in &examples {
            let line = example.split(" > ").next().unwrap_or_default();
            // Odd parts are between quotes.
            let words = line.split('\'').enumerate().flat_map(|(index, part)| match index % 2 {
                1 => vec![part],
                _ => part.split_whitespace().collect(),
            });
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }

    #[test]
    fn help_is_wrapped_at_words() {
        const WIDTH: usize = 80;
        each(&Cli::command(), &mut |command| {
            let help = command.clone().term_width(WIDTH).render_long_help().to_string();
            let (help, _) = help.split_once("\nExamples:").unwrap_or((&help, ""));
            for line in help.lines().filter(|line| line.chars().count() > WIDTH) {
                let words = line.trim().trim_start_matches("- ").split("  ").last().unwrap_or_default();
                assert!(!words.trim().contains(' '), "{}: {line}", command.get_name());
            }
        });
    }

    #[test]
    fn a_manual_page_is_written_for_each_command() {
        let folder = tempfile::tempdir().expect("a folder");
        write_manual(folder.path()).expect("pages");
        for (page, word) in [("latentd.1", "latentd\\-serve(1)"), ("latentd-serve.1", "max\\-queue")] {
            let text = std::fs::read_to_string(folder.path().join(page)).expect("a page");
            assert!(text.contains(word), "{page}: {text}");
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert!(completions(shell).contains("max-queue"), "{shell}");
        }
    }
}
