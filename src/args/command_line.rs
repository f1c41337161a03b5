//! The command line as it is shown to others.

use super::Cli;
use clap::CommandFactory;

/// The command line, without the values of flags that are secret.
pub(crate) fn command_line() -> Vec<String> {
    let mut secret = Vec::new();
    secret_flags(&Cli::command(), &mut secret);
    // Paths need not be UTF-8.
    without_secrets(std::env::args_os().map(|word| word.to_string_lossy().into_owned()), &secret)
}

/// Flags whose variables are not shown in the help: a value of theirs is a secret.
fn secret_flags(command: &clap::Command, found: &mut Vec<String>) {
    let secret = command.get_arguments().filter(|arg| arg.is_hide_env_values_set());
    found.extend(secret.filter_map(|arg| Some(format!("--{}", arg.get_long()?))));
    command.get_subcommands().for_each(|command| secret_flags(command, found));
}

fn without_secrets(line: impl Iterator<Item = String>, secret: &[String]) -> Vec<String> {
    let mut is_secret = false;
    let word = |word: String| match word.split_once('=') {
        _ if std::mem::take(&mut is_secret) => "***".to_owned(),
        Some((flag, _)) if secret.iter().any(|name| name == flag) => format!("{flag}=***"),
        _ => {
            is_secret = secret.contains(&word);
            word
        }
    };
    line.map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_without_its_secrets() {
        let mut secret = Vec::new();
        secret_flags(&Cli::command(), &mut secret);
        for flag in ["--api-key", "--database-url"] {
            assert!(secret.iter().any(|found| found == flag), "{flag}: {secret:?}");
        }
        let line = "latentd bench load --api-key k1 --clients 2 --api-key=k2 --url http://a/?x=1";
        let shown = without_secrets(line.split(' ').map(str::to_owned), &secret).join(" ");
        assert_eq!(shown, "latentd bench load --api-key *** --clients 2 --api-key=*** --url http://a/?x=1");
    }
}
