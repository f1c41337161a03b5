//! Flags of `latentd generate`.

use super::{EngineArgs, SafetyArgs};
use clap::{ArgAction, Args};
use latentd_request::Seed;
use std::path::PathBuf;

/// Flags of `latentd generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// Describes the image.
    pub prompt: String,
    /// Where to write the image: `.png`, `.jpg`, `.jpeg` or `.webp`.
    #[arg(short, long, env = "LATENTD_OUTPUT", value_name = "FILE")]
    pub output: PathBuf,
    /// What to avoid.
    #[arg(long, env = "LATENTD_NEGATIVE_PROMPT", default_value = "", value_name = "TEXT")]
    pub negative_prompt: String,
    /// Seed of the noise; drawn and reported when absent.
    #[arg(long, env = "LATENTD_SEED", allow_negative_numbers = true)]
    pub seed: Option<Seed>,
    /// Denoising steps [default: 28, of Turbo 4, of Medium 40].
    #[arg(long, env = "LATENTD_STEPS", value_name = "N")]
    pub steps: Option<usize>,
    /// Classifier-free guidance scale [default: 3.5, of Turbo 1, which is none, of Medium 4.5].
    #[arg(long, env = "LATENTD_GUIDANCE", value_name = "F")]
    pub guidance: Option<f64>,
    /// Width in pixels; 1024, or that of `--image` or `--control-image`.
    #[arg(long, env = "LATENTD_WIDTH", value_name = "W")]
    pub width: Option<usize>,
    /// Height in pixels; 768, or that of `--image` or `--control-image`.
    #[arg(long, env = "LATENTD_HEIGHT", value_name = "H")]
    pub height: Option<usize>,
    /// Image to start from: JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF.
    #[arg(long, env = "LATENTD_IMAGE", value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Mask of what to generate anew: white there, black where `--image` is kept; of any size.
    #[arg(long, env = "LATENTD_MASK", value_name = "FILE", requires = "image")]
    pub mask: Option<PathBuf>,
    /// How little of `--image` is kept, above 0 up to 1: the share of the steps that are taken.
    #[arg(long, env = "LATENTD_STRENGTH", default_value_t = 0.83, value_name = "F")]
    pub strength: f64,
    /// LoRA adapter, a `.safetensors` file with the keys of diffusers, kohya or Comfy, and its scale, 0 to 4 [default: 1];
    /// here again or separated by commas for several, which are summed.
    #[arg(long, env = "LATENTD_LORA", value_name = "PATH[@SCALE]", value_delimiter = ',')]
    pub lora: Vec<String>,
    /// ControlNet of the model, a folder in diffusers' layout (`config.json` and `diffusion_pytorch_model.safetensors`) or its
    /// `.safetensors` file.
    #[arg(long, env = "LATENTD_CONTROLNET", value_name = "PATH", requires = "control_image")]
    pub controlnet: Option<PathBuf>,
    /// Control image of `--controlnet`, such as edges or depths, of any size.
    #[arg(long, env = "LATENTD_CONTROL_IMAGE", value_name = "FILE", requires = "controlnet")]
    pub control_image: Option<PathBuf>,
    /// Scale of the ControlNet, 0 to 2.
    #[arg(long, env = "LATENTD_CONTROL_SCALE", default_value_t = 1.0, value_name = "F")]
    pub control_scale: f64,
    /// Share of the steps after which the ControlNet begins, 0 to 1.
    #[arg(long, env = "LATENTD_CONTROL_START", default_value_t = 0.0, value_name = "F")]
    pub control_start: f64,
    /// Share of the steps after which the ControlNet ends, 0 to 1.
    #[arg(long, env = "LATENTD_CONTROL_END", default_value_t = 1.0, value_name = "F")]
    pub control_end: f64,
    /// IP-Adapter of the model, by which the image gets content and style of `--ip-image`: a `.safetensors` file, or a folder
    /// with `ip-adapter.safetensors`.
    #[arg(long, env = "LATENTD_IP_ADAPTER", value_name = "PATH", requires_all = ["ip_encoder", "ip_image"])]
    pub ip_adapter: Option<PathBuf>,
    /// Image encoder that `--ip-adapter` was trained with, a SigLIP: a folder with `config.json`, `preprocessor_config.json` and
    /// `model.safetensors`.
    #[arg(long, env = "LATENTD_IP_ENCODER", value_name = "DIR", requires = "ip_adapter")]
    pub ip_encoder: Option<PathBuf>,
    /// Image prompt of `--ip-adapter`, of any size.
    #[arg(long, env = "LATENTD_IP_IMAGE", value_name = "FILE", requires = "ip_adapter")]
    pub ip_image: Option<PathBuf>,
    /// Scale of the IP-Adapter, 0 to 4.
    #[arg(long, env = "LATENTD_IP_SCALE", default_value_t = 0.5, value_name = "F")]
    pub ip_scale: f64,
    /// Skip-layer guidance: numbers of the transformer's blocks, from 0, that a further branch leaves out, such as `7,8,9` for
    /// SD3.5 Medium; the image is led away from that branch. Needs a guidance above 1.
    #[arg(long, env = "LATENTD_SKIP_LAYERS", value_name = "N,N", value_delimiter = ',')]
    pub skip_layers: Vec<usize>,
    /// Scale of the skip-layer guidance.
    #[arg(long, env = "LATENTD_SKIP_SCALE", default_value_t = 2.8, value_name = "F")]
    pub skip_scale: f64,
    /// Share of the steps after which the skip-layer guidance begins, 0 to 1.
    #[arg(long, env = "LATENTD_SKIP_START", default_value_t = 0.01, value_name = "F")]
    pub skip_start: f64,
    /// Share of the steps before which the skip-layer guidance ends, 0 to 1.
    #[arg(long, env = "LATENTD_SKIP_STOP", default_value_t = 0.2, value_name = "F")]
    pub skip_stop: f64,
    /// Images to generate from one seed.
    #[arg(long, env = "LATENTD_NUM_IMAGES", default_value_t = 1, value_name = "N")]
    pub num_images: usize,
    /// Print what was made as JSON.
    #[arg(long, env = "LATENTD_JSON", action = ArgAction::SetTrue)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub engine: EngineArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the flags")]
    pub safety: SafetyArgs,
}
