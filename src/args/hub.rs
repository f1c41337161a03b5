//! Flags of what comes from the Hugging Face hub, and of `latentd models`.

use clap::{ArgAction, Args, Subcommand};
use std::path::PathBuf;

/// The branch that is used where no other revision is named.
const DEFAULT_REVISION: &str = "main";

/// Seconds of `--stall-timeout` where none are given.
const DEFAULT_STALL_TIMEOUT: u64 = 30;

/// How models are found that are named by an id. Hugging Face's own variables are honoured too: `HF_TOKEN`,
/// `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT` and `HF_HUB_OFFLINE`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hugging Face hub")]
pub struct HubArgs {
    /// Branch, tag or commit of a model that is named by its hub id.
    #[arg(long, env = "LATENTD_REVISION", default_value = DEFAULT_REVISION, value_name = "REVISION")]
    pub revision: String,
    /// Never open a connection to the hub: what is not here is an error.
    #[arg(long, env = "LATENTD_OFFLINE", action = ArgAction::SetTrue)]
    pub offline: bool,
    /// Seconds without a byte after which a transfer begins anew where it stopped.
    #[arg(
        long,
        env = "LATENTD_STALL_TIMEOUT",
        default_value_t = DEFAULT_STALL_TIMEOUT,
        value_name = "SECONDS",
        hide = true,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub stall_timeout: u64,
}

/// The flags' defaults, without the environment.
impl Default for HubArgs {
    fn default() -> Self {
        Self { revision: DEFAULT_REVISION.into(), offline: false, stall_timeout: DEFAULT_STALL_TIMEOUT }
    }
}

/// Subcommands of `latentd models`.
#[derive(Debug, Clone, Subcommand)]
pub enum ModelsCommand {
    /// List the models that can be run: built in, in the Hugging Face cache, or to be pulled.
    List {
        /// Print as JSON.
        #[arg(long, env = "LATENTD_JSON", action = ArgAction::SetTrue)]
        json: bool,
    },
    /// Show what is in a file or directory of weights, and what is missing to run it. Reads no weights.
    Inspect {
        /// A .safetensors file, a directory in the diffusers layout, or a directory of files.
        path: PathBuf,
        /// Print as JSON.
        #[arg(long, env = "LATENTD_JSON", action = ArgAction::SetTrue)]
        json: bool,
    },
    /// Store a model's transformer or T5 in fewer bits: as GGUF, or as safetensors in fp8.
    Convert(ConvertArgs),
    /// Fetch a model from the Hugging Face hub into its cache, or what is missing of it.
    Pull(PullArgs),
    /// Compute the checksums of a model's files again.
    Verify {
        /// A model's name, hub id or directory.
        #[arg(value_name = "ID|DIR")]
        model: String,
        /// Print as JSON.
        #[arg(long, env = "LATENTD_JSON", action = ArgAction::SetTrue)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
        hub: HubArgs,
    },
}

/// Flags of `latentd models convert`.
#[derive(Debug, Clone, Args)]
pub struct ConvertArgs {
    /// A directory in the diffusers layout, or a file of weights.
    pub path: PathBuf,
    /// The type of the matrices; `fp8` makes a .safetensors file, the others a .gguf file. K-quants (q4_k, q5_k, q6_k) need
    /// rows of a multiple of 256 values; others become q5_0, q5_1 and q8_0.
    #[arg(
        long,
        env = "LATENTD_TO",
        value_name = "TYPE",
        value_parser = ["bf16", "f16", "q8_0", "fp8", "q6_k", "q5_1", "q5_0", "q5_k", "q4_1", "q4_0", "q4_k"]
    )]
    pub to: String,
    /// What is stored.
    #[arg(long, env = "LATENTD_PART", default_value = "transformer", value_parser = ["transformer", "t5"])]
    pub part: String,
    /// The file to make; nothing may be there yet.
    #[arg(short, long, env = "LATENTD_OUTPUT", value_name = "FILE")]
    pub output: PathBuf,
}

/// Flags of `latentd models pull`.
#[derive(Debug, Clone, Args)]
pub struct PullArgs {
    /// A name that `latentd models list` shows, or the hub id of a model, OWNER/NAME.
    #[arg(value_name = "ID")]
    pub model: String,
    /// Compute the checksums of the files that are here already, and fetch damaged ones again.
    #[arg(long, env = "LATENTD_VERIFY", action = ArgAction::SetTrue)]
    pub verify: bool,
    /// Print what happens as lines of JSON.
    #[arg(long, env = "LATENTD_JSON", action = ArgAction::SetTrue)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub hub: HubArgs,
}
