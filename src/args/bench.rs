//! The command line of `latentd bench`.

use super::EngineArgs;
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    /// The denoising loop alone, on a model's weights or on random ones.
    Denoise(DenoiseArgs),
    /// A whole image: text, denoising, decoding, encoding.
    Pipeline(PipelineArgs),
    /// A running server, called as a fal client calls it.
    Load(LoadArgs),
    /// Measurements of the same work beside each other.
    Compare(CompareArgs),
    /// Measurements as one HTML page, those of the same work together.
    Report(HtmlReportArgs),
}

/// Where the numbers go.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Write everything as JSON to this file, or print it instead of the table without a name.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// How much to do, and how often.
#[derive(Debug, Clone, Args)]
pub struct WorkArgs {
    /// Width in pixels.
    #[arg(long, env = "LATENTD_WIDTH", default_value_t = 1024, value_name = "W")]
    pub width: usize,
    /// Height in pixels.
    #[arg(long, env = "LATENTD_HEIGHT", default_value_t = 1024, value_name = "H")]
    pub height: usize,
    /// Denoising steps.
    #[arg(long, env = "LATENTD_STEPS", default_value_t = 28, value_name = "N")]
    pub steps: usize,
    /// Classifier-free guidance scale; 1 turns it off.
    #[arg(
        long,
        visible_alias = "guidance",
        env = "LATENTD_GUIDANCE",
        default_value_t = 4.5,
        value_name = "F"
    )]
    pub cfg: f64,
    /// Images denoised together.
    #[arg(long, env = "LATENTD_BATCH", default_value_t = 1, value_name = "N")]
    pub batch: usize,
    /// Measured runs.
    #[arg(long, env = "LATENTD_RUNS", default_value_t = 3, value_name = "N")]
    pub runs: usize,
    /// Runs before the first measured one.
    #[arg(long, env = "LATENTD_WARMUP", default_value_t = 1, value_name = "N")]
    pub warmup: usize,
}

/// What else to measure beside latentd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RivalEngine {
    /// candle-transformers' MMDiT in a plain Euler loop.
    Candle,
}

/// Flags of `latentd bench denoise`.
#[derive(Debug, Clone, Args)]
pub struct DenoiseArgs {
    /// Random weights made on the device instead of --model's: `sd3.5-large` or `sd3.5-medium`.
    #[arg(long, env = "LATENTD_SYNTHETIC", value_name = "MODEL")]
    pub synthetic: Option<String>,
    /// Keep only the first blocks of a synthetic model, for machines without memory for all.
    #[arg(long, env = "LATENTD_BLOCKS", requires = "synthetic", value_name = "N")]
    pub blocks: Option<usize>,
    /// Measure another engine too, in turns with latentd's, on random weights of the same model.
    #[arg(long = "engine", env = "LATENTD_ENGINE", requires = "synthetic", value_name = "ENGINE")]
    pub rival: Option<RivalEngine>,
    /// Run a step's text after its image on a GPU, not beside it: the difference is the gain of the second stream.
    #[arg(long, env = "LATENTD_ONE_STREAM", action = ArgAction::SetTrue)]
    pub one_stream: bool,
    /// Then run once more, and split a step into its kernels.
    #[arg(long, env = "LATENTD_PROFILE", action = ArgAction::SetTrue)]
    pub profile: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub work: WorkArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub report: ReportArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub engine: EngineArgs,
}

/// Flags of `latentd bench pipeline`.
#[derive(Debug, Clone, Args)]
pub struct PipelineArgs {
    /// Describes the image.
    #[arg(
        long,
        env = "LATENTD_PROMPT",
        default_value = "a lighthouse on a rocky island at golden hour, oil painting",
        value_name = "TEXT"
    )]
    pub prompt: String,
    /// Have a safety checker look too, as `serve --safety-checker` does; none unless this is given.
    #[arg(
        long,
        env = "LATENTD_SAFETY_CHECKER",
        default_value = "none",
        value_name = "auto|falconsai|compvis|none|DIR"
    )]
    pub safety_checker: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub work: WorkArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub report: ReportArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub engine: EngineArgs,
}

/// Flags of `latentd bench load`.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// The server.
    #[arg(long, env = "LATENTD_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The endpoint to submit to.
    #[arg(
        long,
        env = "LATENTD_ENDPOINT",
        default_value = "fal-ai/stable-diffusion-v35-large",
        value_name = "ID"
    )]
    pub endpoint: String,
    /// Key to send, if the server needs one.
    #[arg(long, env = "LATENTD_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// The input of every request, as JSON [default: a prompt at 256x256 in 4 steps].
    #[arg(long, env = "LATENTD_INPUT", value_name = "JSON")]
    pub input: Option<String>,
    /// Closed loop: this many clients, each with one request at a time.
    #[arg(long, env = "LATENTD_CLIENTS", default_value_t = 4, value_name = "N")]
    pub clients: usize,
    /// Closed loop: requests in all.
    #[arg(long, env = "LATENTD_REQUESTS", default_value_t = 100, value_name = "N")]
    pub requests: u64,
    /// Open loop: requests a second, sent on time whether or not earlier ones have been answered.
    #[arg(long, env = "LATENTD_RATE", conflicts_with_all = ["clients", "requests"], value_name = "R")]
    pub rate: Option<f64>,
    /// Open loop: seconds in which to send.
    #[arg(long, env = "LATENTD_DURATION", default_value_t = 10.0, value_name = "SECONDS")]
    pub duration: f64,
    /// Measure the submit alone and leave the requests to the server.
    #[arg(long, env = "LATENTD_SUBMIT_ONLY", action = ArgAction::SetTrue)]
    pub submit_only: bool,
    /// Meanwhile, this many clients wait for requests of their own and look at their status all the time. For a
    /// server that does not work them off: `serve --workers 0`.
    #[arg(long, env = "LATENTD_WAITING", default_value_t = 0, value_name = "N")]
    pub waiting: usize,
    /// Milliseconds between two looks at a request's status.
    #[arg(long, env = "LATENTD_POLL_MS", default_value_t = 100, value_name = "MS")]
    pub poll_ms: u64,
    /// Seconds after which a request counts as lost.
    #[arg(long, env = "LATENTD_TIMEOUT", default_value_t = 600.0, value_name = "SECONDS")]
    pub timeout: f64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub report: ReportArgs,
}

/// Flags of `latentd bench compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// JSON of `latentd bench`, or of the scripts in benches/peers. The others are compared with the first.
    #[arg(required = true, value_name = "JSON")]
    pub files: Vec<PathBuf>,
    /// Write a chart to this file too.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Flags of `latentd bench report`.
#[derive(Debug, Clone, Args)]
pub struct HtmlReportArgs {
    /// JSON of `latentd bench`, or of the scripts in benches/peers.
    #[arg(required = true, value_name = "JSON")]
    pub files: Vec<PathBuf>,
    /// The page.
    #[arg(short, long, default_value = "report.html", value_name = "FILE")]
    pub output: PathBuf,
}
