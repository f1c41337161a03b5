//! The command line: every flag, its environment variable and its help text, and the configuration file.
//!
//! Nothing else reads the environment. Nothing is checked beyond its spelling: [`crate::config`] does that.

mod access;
mod adapters;
mod backup;
mod bench;
mod bundle;
mod command_line;
mod config;
mod doctor;
mod environment;
mod examples;
mod file;
mod generate;
mod hub;
mod intercept;
mod keys;
mod kind;
mod log;
mod otlp;
mod parse;
mod reference;
mod retention;
mod serve;
mod settings;
mod tls;

pub use access::{AccessArgs, key_is_on_the_command_line};
pub use adapters::AdapterArgs;
pub use backup::{BackupArgs, RestoreArgs};
pub use bench::{
    BenchCommand, CompareArgs, DenoiseArgs, HtmlReportArgs, LoadArgs, PipelineArgs, ReportArgs, RivalEngine,
};
pub use bundle::{BundleArgs, UnbundleArgs};
pub(crate) use command_line::command_line;
pub use config::{ConfigCommand, ShowArgs};
pub use doctor::DoctorArgs;
pub use generate::GenerateArgs;
pub use hub::{ConvertArgs, HubArgs, ModelsCommand, PullArgs};
pub use intercept::{EnvArgs, InterceptArgs, RelayArgs, RunArgs};
pub use keys::{CreateKeyArgs, KeyStoreArgs, KeysCommand};
pub use kind::Kind;
pub use log::{LogArgs, LogFormat};
pub use otlp::OtlpArgs;
pub use parse::parse;
pub(crate) use reference::{completions, write_manual};
pub use retention::RetentionArgs;
pub use serve::{ServeArgs, WorkerArgs};
pub use settings::{Setting, Source};
pub use tls::TlsArgs;

pub(crate) use environment::{default_data_dir, is_empty, variable};

use clap::{ArgAction, Args, Parser, Subcommand};
use clap_complete::Shell;
use std::path::PathBuf;

/// Runs Stable Diffusion 3.5 on your own machine and speaks the fal.ai model API.
#[derive(Debug, Parser)]
#[command(name = "latentd", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub log: LogArgs,
    /// Configuration file, TOML: flags of `serve` and `worker` by their long names, such as `max-queue = 1000`. A flag and
    /// a variable go before it. Commands take the flags of the file that they have.
    #[arg(
        long,
        env = "LATENTD_CONFIG",
        global = true,
        value_name = "FILE",
        help_heading = "Configuration and log"
    )]
    pub config: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API and start one worker per device.
    #[command(after_long_help = examples::SERVE)]
    Serve(Box<ServeArgs>),
    /// Run requests from the queue; `serve` starts these by itself.
    #[command(after_long_help = examples::WORKER)]
    Worker(WorkerArgs),
    /// Generate images without a server.
    #[command(after_long_help = examples::GENERATE)]
    Generate(GenerateArgs),
    /// Measure a device, a model or a running server.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// List models, fetch them from the Hugging Face hub, and check their files.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Make, list and revoke the keys of the API, also while the server runs.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Write everything that a server keeps into one archive, also while it runs.
    #[command(after_long_help = examples::BACKUP)]
    Backup(BackupArgs),
    /// Read such an archive into a data directory that is empty.
    Restore(RestoreArgs),
    /// Write a model with everything that it needs into one file, for machines without a network.
    #[command(after_long_help = examples::BUNDLE)]
    Bundle(BundleArgs),
    /// Read such a file into the Hugging Face cache, and print the command that serves its model.
    Unbundle(UnbundleArgs),
    /// Show the settings in force.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at this machine: devices, memory, disks, models, and whether `serve` would start.
    Doctor(Box<DoctorArgs>),
    /// Print what a shell evaluates so that its programs reach `serve --intercept` in place of fal.
    Env(EnvArgs),
    /// Run a program for which `serve --intercept` is fal, and which reaches nothing else.
    #[command(after_long_help = examples::RUN)]
    Run(RunArgs),
    /// Print a script with which a shell completes commands and flags.
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages of all commands, for `man`, into a directory.
    #[command(after_long_help = examples::MAN)]
    Man {
        /// The directory, which must be there.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Carry what a program of `run` sends.
    #[command(hide = true)]
    Relay(RelayArgs),
}

/// Which model to run, where, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model and device")]
pub struct EngineArgs {
    /// `mini` (built in), a directory in the diffusers layout, a checkpoint file such as `sd3.5_large.safetensors`, or a
    /// model of the Hugging Face hub, OWNER/NAME or a name that `latentd models list` shows, which is pulled unless it is
    /// in the cache. `serve` and `worker` take several, here again or separated by commas; `NAME=MODEL` says which
    /// published model it is: it answers at that one's endpoint.
    #[arg(long, env = "LATENTD_MODEL", default_value = "mini", value_name = "[NAME=]MODEL")]
    pub model: Vec<String>,
    /// Directory of the text encoders that a checkpoint file lacks: `clip_l`, `clip_g` and `t5xxl` files, identified by
    /// their content, or folders in the diffusers layout. Without T5 it runs without.
    #[arg(long, env = "LATENTD_TEXT_ENCODERS", value_name = "DIR")]
    pub text_encoders: Option<PathBuf>,
    /// Shift of the noise schedule of a checkpoint file, which does not say it, above 0 [default: that of the published
    /// model, 3]. A directory has it in `scheduler/scheduler_config.json`.
    #[arg(long, env = "LATENTD_SHIFT", value_name = "F", allow_hyphen_values = true)]
    pub shift: Option<String>,
    /// `cpu` or `cuda:N`; `serve` takes several, separated by commas. `auto` is every GPU (for other commands the
    /// first), or the processor where there is none or the program was built without CUDA.
    #[arg(long, env = "LATENTD_DEVICE", default_value = "auto")]
    pub device: String,
    /// Precision of weights and activations: `f32`, `bf16` or `fp8` (NVIDIA Hopper only: H100, H200); `auto` is `bf16` on
    /// GPUs and on processors with AMX, else `f32`.
    #[arg(long, visible_alias = "precision", env = "LATENTD_DTYPE", default_value = "auto")]
    pub dtype: String,
    /// Prompt tokens that T5 reads, 1 to 512; the default is that of diffusers.
    #[arg(
        long,
        env = "LATENTD_T5_TOKENS",
        alias = "max-sequence-length",
        default_value_t = 256,
        value_name = "N"
    )]
    pub t5_tokens: usize,
    /// Guide only at noise levels LO < sigma <= HI, which fall from 1 to 0; the other steps cost half. The image is
    /// another one.
    #[arg(long, env = "LATENTD_GUIDANCE_INTERVAL", value_name = "LO,HI", allow_hyphen_values = true)]
    pub guidance_interval: Option<String>,
    /// Run the first block alone in steps where what it adds differs by no more than this share from the last whole
    /// step, and add again what the others added then (diffusers' first-block cache). The image is another one.
    #[arg(long, env = "LATENTD_FIRST_BLOCK_CACHE", value_name = "THRESHOLD", allow_hyphen_values = true)]
    pub first_block_cache: Option<String>,
    /// The best instruction set of the processor that is used: `baseline`, `avx2`, `avx512`, `avx512_bf16` or `amx`; for
    /// tests and comparisons.
    #[arg(long, env = "LATENTD_MAX_CPU_ISA", default_value = "auto", value_name = "ISA")]
    pub max_cpu_isa: String,
    /// Whether the text encoder T5 is loaded: `auto`, where the model has one; `off` needs a third less memory, and
    /// images follow long prompts less closely.
    #[arg(long, env = "LATENTD_T5", default_value = "auto", value_name = "auto|off")]
    pub t5: String,
    /// Which weights stay in memory, with the same images but for the last bits of `stream` on a GPU: `resident`, all; `offload`, those that every step reads, while text
    /// encoders and adaLN layers are read from their files once a request; `stream`, none, so that a step lasts as long as reading
    /// the transformer, or longer. `auto` is the first of them that fits into what is free.
    #[arg(
        long,
        env = "LATENTD_MEMORY_MODE",
        default_value = "auto",
        value_name = "auto|resident|offload|stream"
    )]
    pub memory_mode: String,
    /// Whether a model that needs more memory than is free is refused before it is loaded.
    #[arg(long, env = "LATENTD_MEMORY_CHECK", default_value = "on", value_name = "on|off")]
    pub memory_check: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub hub: HubArgs,
}

/// The safety checker.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Safety checker")]
pub struct SafetyArgs {
    /// The checker that finds unsafe images, which become black. `falconsai` and `compvis` are the published classifiers of these
    /// names; DIR holds one of these kinds. `auto` is the model's own folder `safety_checker`, or else `falconsai`.
    #[arg(
        long,
        env = "LATENTD_SAFETY_CHECKER",
        default_value = "auto",
        value_name = "auto|falconsai|compvis|none|DIR"
    )]
    pub safety_checker: String,
    /// Probability, 0 to 1, above which an image is unsafe [default: 0.5]. `compvis` gives no probability and refuses
    /// this flag: its thresholds are part of it.
    #[arg(long, env = "LATENTD_SAFETY_THRESHOLD", value_name = "F", allow_negative_numbers = true)]
    pub safety_threshold: Option<f64>,
    /// Check every image, whatever its request asks for.
    #[arg(long, env = "LATENTD_FORCE_SAFETY_CHECKER", action = ArgAction::SetTrue)]
    pub force_safety_checker: bool,
}

/// Where requests and files are kept.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct StoreArgs {
    /// Directory of everything the server keeps [default: `$XDG_DATA_HOME/latentd`,
    /// `~/.local/share/latentd`, or `./latentd-data` without a home].
    #[arg(long, env = "LATENTD_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Queue database, `sqlite:PATH` or `postgres://USER@HOST/NAME` [default: `latentd.sqlite` in the data directory].
    #[arg(long, env = "LATENTD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// File with that URL in it, for databases whose URL has a password.
    #[arg(long, env = "LATENTD_DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,
    /// Directory of the files, or `s3://BUCKET/PREFIX` for a bucket, whose credentials are `AWS_ACCESS_KEY_ID` and
    /// `AWS_SECRET_ACCESS_KEY`, or the files that these names with `_FILE` name [default: `files` in the data directory].
    #[arg(long, env = "LATENTD_STORAGE", value_name = "DIR|s3://…")]
    pub storage: Option<String>,
}

/// The key of signatures.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct SigningArgs {
    /// File of the key that signs webhooks and tokens, Ed25519 in PKCS#8 DER; several servers of one database need the
    /// same one [default: `webhook-key.pk8` in the data directory, which the first start makes].
    #[arg(long, env = "LATENTD_SIGNING_KEY", value_name = "FILE")]
    pub signing_key: Option<PathBuf>,
}

/// Heading of what the server itself calls.
const CONNECTIONS: &str = "Connections to others";

/// Where images and adapters that requests name may be fetched.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = CONNECTIONS)]
pub struct FetchArgs {
    /// Address, block (`10.0.0.0/8`) or host name of hosts beyond the public internet whose images and LoRA adapters
    /// requests may name; may be given several times. `serve` allows this machine when it listens on a loopback address.
    #[arg(long, env = "LATENTD_FETCH_ALLOW", value_delimiter = ',', value_name = "HOST|CIDR")]
    pub fetch_allow: Vec<String>,
}
