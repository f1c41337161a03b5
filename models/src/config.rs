//! The config files of a diffusers directory. Every size of the model comes from here.

mod classes;
mod controlnet;
mod ip_adapter;
pub(crate) mod json;
mod limits;
mod scheduler;

use crate::error::one_line;
use crate::{Error, Result, files::ModelFiles};
pub(crate) use controlnet::ControlNetConfig;
pub(crate) use ip_adapter::IpAdapterConfig;
pub(crate) use limits::{POSITIONS, WIDEST_HEAD};
pub(crate) use scheduler::{SchedulerConfig, Shift, Spacing};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads `path` (relative to the model directory) as JSON.
pub(crate) fn read<T: DeserializeOwned>(files: &ModelFiles, path: &str) -> Result<T> {
    json::parse(&files.read(path)?).map_err(|why| wrong(files, path, &why))
}

/// Reads the config file of a component, `folder/name`, after seeing that it is that of a class which latentd runs.
pub(crate) fn read_component<T: DeserializeOwned>(files: &ModelFiles, folder: &str, name: &str) -> Result<T> {
    let path = format!("{folder}/{name}");
    let bytes = files.read(&path)?;
    let config = json::parse(&bytes).and_then(|config| classes::check_config(folder, &config));
    // Of the bytes, since a value forgets fields that are there twice.
    config.and_then(|()| json::parse(&bytes)).map_err(|why| wrong(files, &path, &why))
}

/// What is wrong with a file, which may be said in the file's own words.
fn wrong(files: &ModelFiles, path: &str, why: &str) -> Error {
    Error::Model(format!("{}: {}", files.display(path), one_line(why, 300)))
}

/// What a directory in the diffusers layout is described by.
const INDEX: &str = "model_index.json";

/// `model_index.json`: which parts the directory has. A part is `[library, class]`, or `[null, null]` if absent.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelIndex {
    #[serde(rename = "_class_name")]
    pub(crate) class_name: String,
    #[serde(default)]
    pub(crate) text_encoder_3: Option<[Option<String>; 2]>,
    /// latentd's own note about the built-in model; other programs ignore it.
    #[serde(rename = "_latentd", default)]
    pub(crate) note: Note,
}

impl ModelIndex {
    pub(crate) fn has_t5(&self) -> bool {
        matches!(&self.text_encoder_3, Some([_, Some(_)]))
    }
}

/// What latentd writes into the `model_index.json` of its own models.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Note {
    pub(crate) name: Option<String>,
}

/// `transformer/config.json` (diffusers `SD3Transformer2DModel`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TransformerConfig {
    pub(crate) attention_head_dim: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_layers: usize,
    pub(crate) patch_size: usize,
    pub(crate) in_channels: usize,
    pub(crate) out_channels: Option<usize>,
    pub(crate) joint_attention_dim: usize,
    pub(crate) caption_projection_dim: usize,
    pub(crate) pooled_projection_dim: usize,
    pub(crate) pos_embed_max_size: usize,
    #[serde(default)]
    pub(crate) dual_attention_layers: Vec<usize>,
    #[serde(default)]
    pub(crate) qk_norm: Option<String>,
}

impl TransformerConfig {
    /// Width of the image and text streams.
    pub(crate) fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    pub(crate) fn out_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Tokens of latents of this height and width.
    pub(crate) fn tokens(&self, height: usize, width: usize) -> usize {
        (height / self.patch_size) * (width / self.patch_size)
    }

    fn check(&self) -> Result<(), String> {
        self.check_sizes()?;
        let width = self.width();
        if self.caption_projection_dim != width {
            let (caption, heads) = (self.caption_projection_dim, self.num_attention_heads);
            return Err(format!(
                "caption_projection_dim is {caption}, but {heads} heads of {} make a width of {width}",
                self.attention_head_dim
            ));
        }
        match self.qk_norm.as_deref() {
            None | Some("rms_norm") => Ok(()),
            Some(other) => Err(format!("qk_norm \"{other}\" is not supported: only \"rms_norm\" or null")),
        }
    }
}

/// `text_encoder/config.json`, `text_encoder_2/config.json` (transformers `CLIPTextModelWithProjection`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ClipConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) projection_dim: usize,
    #[serde(default = "layer_norm_eps")]
    pub(crate) layer_norm_eps: f64,
    pub(crate) hidden_act: String,
    #[serde(default = "clip_eos")]
    pub(crate) eos_token_id: u32,
}

fn layer_norm_eps() -> f64 {
    1e-5
}

/// transformers' own default, the end of text of the real vocabulary.
fn clip_eos() -> u32 {
    49407
}

/// `text_encoder_3/config.json` (transformers `T5EncoderModel`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct T5Config {
    pub(crate) vocab_size: usize,
    pub(crate) d_model: usize,
    pub(crate) d_kv: usize,
    pub(crate) d_ff: usize,
    pub(crate) num_layers: usize,
    pub(crate) num_heads: usize,
    #[serde(default = "num_buckets")]
    pub(crate) relative_attention_num_buckets: usize,
    #[serde(default = "max_distance")]
    pub(crate) relative_attention_max_distance: usize,
    #[serde(default = "t5_eps")]
    pub(crate) layer_norm_epsilon: f64,
    pub(crate) feed_forward_proj: String,
}

fn num_buckets() -> usize {
    32
}

fn max_distance() -> usize {
    128
}

fn t5_eps() -> f64 {
    1e-6
}

/// `vae/config.json` (diffusers `AutoencoderKL`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct VaeConfig {
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) latent_channels: usize,
    pub(crate) block_out_channels: Vec<usize>,
    pub(crate) layers_per_block: usize,
    pub(crate) norm_num_groups: usize,
    pub(crate) scaling_factor: f64,
    #[serde(default)]
    pub(crate) shift_factor: Option<f64>,
    #[serde(default = "yes")]
    pub(crate) use_quant_conv: bool,
    #[serde(default = "yes")]
    pub(crate) use_post_quant_conv: bool,
    #[serde(default = "yes")]
    pub(crate) mid_block_add_attention: bool,
    #[serde(default)]
    pub(crate) act_fn: Option<String>,
    #[serde(default)]
    down_block_types: Vec<String>,
    #[serde(default)]
    up_block_types: Vec<String>,
}

/// What the VAE's blocks are; diffusers has others, with attention in them.
const DOWN_BLOCK: &str = "DownEncoderBlock2D";
const UP_BLOCK: &str = "UpDecoderBlock2D";

fn yes() -> bool {
    true
}

impl VaeConfig {
    /// Pixels a latent spans in each direction.
    pub(crate) fn factor(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }

    fn check(&self) -> Result<(), String> {
        self.check_sizes()?;
        if self.out_channels != 3 {
            return Err(format!("out_channels is {}, but images have 3", self.out_channels));
        }
        let groups = self.norm_num_groups;
        if self.block_out_channels.iter().any(|c| c % groups != 0) {
            return Err(format!("norm_num_groups {groups} does not divide every block_out_channels"));
        }
        for (name, types, known) in [
            ("down_block_types", &self.down_block_types, DOWN_BLOCK),
            ("up_block_types", &self.up_block_types, UP_BLOCK),
        ] {
            if let Some(other) = types.iter().find(|block| *block != known) {
                return Err(format!("{name} has \"{other}\", which is not supported: only \"{known}\""));
            }
        }
        match self.act_fn.as_deref() {
            None | Some("silu" | "swish") => Ok(()),
            Some(other) => Err(format!("act_fn \"{other}\" is not supported: only \"silu\"")),
        }
    }
}

/// All config files but those of the text encoders, checked against each other.
#[derive(Debug)]
pub(crate) struct Configs {
    pub(crate) index: ModelIndex,
    pub(crate) transformer: TransformerConfig,
    pub(crate) vae: VaeConfig,
    pub(crate) scheduler: SchedulerConfig,
}

impl Configs {
    pub(crate) fn read(files: &ModelFiles) -> Result<Self> {
        let index: ModelIndex = read(files, INDEX)?;
        let in_index = |why: String| wrong(files, INDEX, &why);
        if index.class_name != "StableDiffusion3Pipeline" {
            let class = &index.class_name;
            return Err(in_index(format!(
                "it is a {class}, and latentd runs StableDiffusion3Pipeline: use a model of Stable Diffusion 3.5 in \
                 the diffusers layout"
            )));
        }
        classes::check_index(&read(files, INDEX)?).map_err(in_index)?;
        let transformer: TransformerConfig = read_component(files, "transformer", "config.json")?;
        let vae: VaeConfig = read_component(files, "vae", "config.json")?;
        let scheduler: SchedulerConfig = read_component(files, "scheduler", "scheduler_config.json")?;
        let configs = Self { index, transformer, vae, scheduler };
        configs.check().map_err(|(path, why)| wrong(files, path, &why))?;
        Ok(configs)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        self.transformer.check().map_err(|why| ("transformer/config.json", why))?;
        self.vae.check().map_err(|why| ("vae/config.json", why))?;
        let (latent, model) = (self.vae.latent_channels, self.transformer.in_channels);
        if latent != model || self.transformer.out_channels() != model {
            let why = format!("in_channels and out_channels must equal the VAE's latent_channels, {latent}");
            return Err(("transformer/config.json", why));
        }
        self.scheduler.check().map_err(|why| ("scheduler/scheduler_config.json", why))
    }
}
