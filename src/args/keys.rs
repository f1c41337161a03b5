//! Flags of `latentd keys`.

use super::StoreArgs;
use clap::{ArgAction, Args, Subcommand};
use std::path::PathBuf;

/// Subcommands of `latentd keys`.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this once.
    Create(CreateKeyArgs),
    /// List the keys, without their secrets.
    List {
        /// Print as JSON.
        #[arg(long, env = "LATENTD_JSON", action = ArgAction::SetTrue)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
        store: KeyStoreArgs,
    },
    /// Make a key open nothing any more; a running server follows within a second.
    Revoke {
        /// The part of the key before the colon.
        id: String,
        #[command(flatten)]
        #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
        store: KeyStoreArgs,
    },
}

/// Flags of `latentd keys create`.
#[derive(Debug, Clone, Args)]
pub struct CreateKeyArgs {
    /// What to call it.
    #[arg(long, env = "LATENTD_NAME", default_value = "", value_name = "NAME")]
    pub name: String,
    /// What it may do: `api` uses models; `admin` also administers the server and deletes what requests brought and made.
    #[arg(long, env = "LATENTD_SCOPE", default_value = "api", value_parser = ["api", "admin"])]
    pub scope: String,
    /// Requests that may run at once; more wait in the queue, or are refused where a client holds the line
    /// [default: any number].
    #[arg(
        long,
        env = "LATENTD_CONCURRENCY",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub concurrency: Option<u32>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub store: KeyStoreArgs,
}

/// Where the server keeps its keys: the flags it was started with.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct KeyStoreArgs {
    /// The server's data directory.
    #[arg(long, env = "LATENTD_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The server's database, `sqlite:PATH` or `postgres://USER@HOST/NAME` [default: `latentd.sqlite` in the data directory].
    #[arg(long, env = "LATENTD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// File with that URL in it.
    #[arg(long, env = "LATENTD_DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,
}

impl From<KeyStoreArgs> for StoreArgs {
    fn from(args: KeyStoreArgs) -> Self {
        let KeyStoreArgs { data_dir, database_url, database_url_file } = args;
        Self { data_dir, database_url, database_url_file, storage: None }
    }
}
