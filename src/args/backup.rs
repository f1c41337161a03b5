//! Flags of `latentd backup` and `latentd restore`.

use super::{SigningArgs, StoreArgs};
use clap::Args;
use std::path::PathBuf;

/// Flags of `latentd backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// The archive to make; nothing may be there yet.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub store: StoreArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub signing: SigningArgs,
}

/// Flags of `latentd restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// An archive that `latentd backup` made.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub store: StoreArgs,
}
