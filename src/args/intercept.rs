//! Flags of `latentd serve --intercept`, `latentd env` and `latentd run`.

use super::KeyStoreArgs;
use clap::{ArgAction, Args};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What answers for fal's own host names.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "fal's host names")]
pub struct InterceptArgs {
    /// Answer on this address, 127.0.0.1:8443 where none is given, for fal's own host names, to programs of this machine that
    /// run under `latentd run` or in the environment of `latentd env`.
    #[arg(
        long,
        env = "LATENTD_INTERCEPT",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:8443",
        value_name = "ADDRESS"
    )]
    pub intercept: Option<SocketAddr>,
    /// Let these programs reach other hosts of the public internet too: their https goes through this address.
    #[arg(long, env = "LATENTD_INTERCEPT_TUNNEL", action = ArgAction::SetTrue)]
    pub intercept_tunnel: bool,
    /// Address, block (`10.0.0.0/8`) or host name that they may reach beyond the public internet; may be given several
    /// times.
    #[arg(long, env = "LATENTD_INTERCEPT_TUNNEL_ALLOW", value_delimiter = ',', value_name = "HOST|CIDR")]
    pub intercept_tunnel_allow: Vec<String>,
}

/// Flags of `latentd env`.
#[derive(Debug, Clone, Args)]
pub struct EnvArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub store: KeyStoreArgs,
    /// The value of `NODE_OPTIONS` now, which is kept.
    #[arg(long, env = "NODE_OPTIONS", default_value = "", hide = true)]
    pub node_options: String,
    /// Where Python looks already.
    #[arg(long, env = "PYTHONPATH", default_value = "", hide = true)]
    pub python_path: String,
    /// What takes no proxy already.
    #[arg(long, env = "NO_PROXY", default_value = "", hide = true)]
    pub no_proxy: String,
    /// The same by its older name.
    #[arg(long = "lower-no-proxy", env = "no_proxy", default_value = "", hide = true)]
    pub lower_no_proxy: String,
}

/// Flags of `latentd run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Let the program reach everything but fal as usual; needs `pasta`, of the package `passt`.
    #[arg(long, env = "LATENTD_ALLOW_NETWORK", action = ArgAction::SetTrue)]
    pub allow_network: bool,
    /// Only try whether this system lets it.
    #[arg(long, action = ArgAction::SetTrue, hide = true)]
    pub check: bool,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true, required_unless_present = "check", value_name = "PROGRAM")]
    pub program: Vec<OsString>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub store: KeyStoreArgs,
}

/// Flags of `latentd relay`, which `latentd run` starts.
#[derive(Debug, Clone, Args)]
pub struct RelayArgs {
    /// The server's data directory.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// URL of the server's database.
    #[arg(long, env = "LATENTD_DATABASE_URL", hide_env_values = true)]
    pub database: String,
    /// Connect the program with the network.
    #[arg(long, action = ArgAction::SetTrue)]
    pub allow_network: bool,
    /// This is the process that carries.
    #[arg(long, action = ArgAction::SetTrue)]
    pub detached: bool,
}
