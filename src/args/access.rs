//! Flags that say who may use the server.

use clap::{ArgAction, Args};
use std::path::PathBuf;

/// The flag whose value other users of the machine can see in the list of processes.
const API_KEY: &str = "--api-key";

/// Who may use the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// Key that clients must send; may be given several times, beside those of `latentd keys create`. One is needed
    /// unless only this machine can connect. Other users of this machine see a key on the command line: prefer
    /// LATENTD_API_KEY, or --api-key-file.
    #[arg(
        long = "api-key",
        env = "LATENTD_API_KEY",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "KEY"
    )]
    pub api_keys: Vec<String>,
    /// File of keys that clients must send, one a line; empty lines and those that begin with `#` do not count. It is
    /// read once, at the start.
    #[arg(long, env = "LATENTD_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Host name or address by which clients may call a server without keys, beside those of this machine, --public-url
    /// and fal's own; may be given several times.
    #[arg(long, env = "LATENTD_ALLOW_HOST", value_delimiter = ',', value_name = "HOST")]
    pub allow_host: Vec<String>,
    /// Origin, such as `https://app.example`, whose web pages may use a server without keys, beside its own pages and
    /// those of servers on this machine; may be given several times. `*` is every page of the web.
    #[arg(long, env = "LATENTD_ALLOW_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// Let each key of `latentd keys create` see its own requests and files alone; what is another's is as if it were not
    /// there. Keys of administrators, and keys given here, see everything.
    #[arg(long, env = "LATENTD_ISOLATE_KEYS", action = ArgAction::SetTrue)]
    pub isolate_keys: bool,
    /// Let whoever can connect read `/metrics` without a key.
    #[arg(long, env = "LATENTD_METRICS_OPEN", action = ArgAction::SetTrue)]
    pub metrics_open: bool,
}

/// Was a key given where the list of processes shows it?
pub fn key_is_on_the_command_line() -> bool {
    std::env::args_os().any(|word| {
        let word = word.to_string_lossy();
        word.strip_prefix(API_KEY).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}
