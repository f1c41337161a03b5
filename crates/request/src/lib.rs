//! A valid request for images and its output, without wire names and tensors.

mod controlnet;
mod ip_adapter;
mod limits;
mod lora;
mod seed;
mod skip_layers;

pub use controlnet::{CONTROL_SCALE, CONTROL_SHARE, ControlNetRef};
pub use ip_adapter::{IP_ADAPTER_SCALE, IpAdapterRef};
pub use limits::{Beyond, Limits, MAX_SCALED_PIXELS};
pub use lora::{AdapterFlaw, AdapterProblem, AdapterSource, LORA_SCALE, LoraRef, MAX_LORAS, is_lora_name};
pub use seed::Seed;
pub use skip_layers::{MAX_SKIPPED_LAYERS, SKIP_SCALE, SKIP_SHARE, SkipLayers};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter;
use std::ops::RangeInclusive;

/// Images a request may ask for.
pub const NUM_IMAGES: RangeInclusive<i64> = 1..=4;
/// Range of [`ImageRequest::image_offset`]: every image of the largest request can be generated alone.
pub const IMAGE_OFFSET: RangeInclusive<i64> = 0..=*NUM_IMAGES.end() - 1;
/// Longest side any model may be asked for.
pub const MAX_SIDE: i64 = 14_142;
/// Permitted strength of a request with an initial image: the share of the steps that are taken.
pub const STRENGTH: RangeInclusive<f64> = 0.01..=1.0;
/// Bytes of the largest file inside a request.
pub const MAX_INLINE_BYTES: u64 = 10 * 1024 * 1024;
/// File formats of initial images that can be decoded.
pub const IMAGE_FORMATS: [&str; 7] = ["jpeg", "png", "webp", "avif", "gif", "bmp", "tiff"];
/// Longest prompt in characters: far beyond what the text encoders read.
pub const MAX_PROMPT_CHARS: usize = 50_000;

/// File format of the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// Lossy.
    Jpeg,
    /// Lossless.
    Png,
    /// Lossy.
    WebP,
}

/// A valid request: every default filled in, the seed fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRequest {
    /// Name of the published model; empty in requests stored before there was a choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// The model that serves in its place, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<String>,
    /// What to generate.
    pub prompt: String,
    /// What to avoid.
    pub negative_prompt: String,
    /// Pixels; at most so many where [`InitImageRef::keeps_size`] or [`ControlNetRef::keeps_size`].
    pub width: usize,
    /// Pixels; at most so many where [`InitImageRef::keeps_size`] or [`ControlNetRef::keeps_size`].
    pub height: usize,
    /// Width and height that the finished images are scaled to, where the model generates no such size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled_to: Option<(usize, usize)>,
    /// Denoising steps.
    pub steps: usize,
    /// Classifier-free guidance scale.
    pub guidance: f64,
    /// Seed of the noise.
    pub seed: Seed,
    /// Images to generate.
    pub num_images: usize,
    /// Images of the seed that come before them and are not generated: 2 and one image is the third of three.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub image_offset: usize,
    /// File format.
    pub format: OutputFormat,
    /// Quality of a lossy format, 0 to 100; `None`: 95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<u8>,
    /// Put the images into the output itself and keep no file.
    pub inline: bool,
    /// Run the safety checker, where one is loaded.
    pub check_safety: bool,
    /// The client wants nothing of the request to be kept: adapters that it brings are removed with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
    /// The settings are not written into the image files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_settings: bool,
    /// The initial image (image-to-image); generated from noise alone where there is none.
    #[serde(rename = "begin", default, skip_serializing_if = "Option::is_none")]
    pub init_image: Option<InitImageRef>,
    /// Skip-layer guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_layers: Option<SkipLayers>,
    /// LoRA adapters, summed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraRef>,
    /// A ControlNet with its control image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controlnet: Option<ControlNetRef>,
    /// An IP-Adapter with its image prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_adapter: Option<IpAdapterRef>,
}

impl ImageRequest {
    /// Where the files are that the request names.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        let of_controlnet = self
            .controlnet
            .iter_mut()
            .flat_map(|net| iter::once(&mut net.image).chain(net.source.file_mut()));
        let of_ip_adapter = self.ip_adapter.iter_mut().flat_map(|adapter| {
            let files = [adapter.source.file_mut(), adapter.encoder.file_mut()];
            iter::once(&mut adapter.image).chain(files.into_iter().flatten())
        });
        let of_loras = self.loras.iter_mut().filter_map(|lora| lora.source.file_mut());
        let images = self.init_image.iter_mut();
        let sources = images.flat_map(|image| {
            iter::once(&mut image.source).chain(image.mask.as_mut().map(|mask| &mut mask.source))
        });
        sources.chain(of_loras).chain(of_controlnet).chain(of_ip_adapter)
    }
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Where a request's initial image is, and how it is used. The worker fetches it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InitImageRef {
    /// Where it is.
    pub source: Source,
    /// What is generated anew, if the rest is to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<MaskRef>,
    /// The share of the steps that are taken: how little of the image is kept.
    pub strength: f64,
    /// The generated images get the size of the initial image, scaled down where it exceeds the request's size.
    pub keeps_size: bool,
}

/// A mask, and what in it is generated anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaskRef {
    /// Where it is.
    pub source: Source,
    /// Its transparent part is, as in OpenAI's masks; else its white part, as in fal's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transparent: bool,
}

/// Where a client's file is. Has no readable `Debug`: the file may be inside, and its URL may hold a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// In storage, under the name that this server gave it.
    Stored(String),
    /// Here, in base64.
    Inline(String),
    /// At this URL.
    Remote(String),
}

impl fmt::Debug for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Stored(_) => "Stored(…)",
            Self::Inline(_) => "Inline(…)",
            Self::Remote(_) => "Remote(…)",
        })
    }
}

/// What is wrong with the initial image of a request, or with its mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// Its file cannot be had.
    Unreachable,
    /// Its file has more bytes than this.
    TooManyBytes(u64),
    /// Its file is not an image, or a damaged one.
    Unreadable,
    /// It has a side longer than this.
    TooLarge(u32),
    /// It has more pixels than this, the most that can be read of such a file.
    TooManyPixels(u64),
    /// It is of a format that is not read.
    Unsupported,
}

/// Where a finished image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In storage, under this key.
    Stored(String),
    /// Here, in base64.
    Inline(String),
}

/// One finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputImage {
    /// Where the bytes are.
    pub place: Place,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// MIME type.
    pub content_type: String,
}

/// Seconds spent in each stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageSeconds {
    /// Text encoders.
    pub text: f64,
    /// Denoising loop.
    pub denoise: f64,
    /// VAE.
    pub decode: f64,
    /// Encoding the image files.
    pub encode: f64,
    /// Loading the model, where it had to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Not seconds: of the prompt and the negative one, how many were encoded for an earlier request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_prompts: Option<usize>,
    /// Not seconds: steps outside of the guidance interval, if one is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unguided_steps: Option<usize>,
    /// Not seconds: steps that ran one block, if a first-block cache is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_block_cache_reused_steps: Option<usize>,
}

/// The safety checker's score of an image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The larger, the less safe; `None` where it is not finite.
    pub value: Option<f32>,
    /// What `value` is.
    pub measure: Measure,
}

/// What a [`Score`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// That the image is unsafe, 0 to 1.
    Probability,
    /// How far beyond a threshold of its own the image is, -2 to 2: unsafe above 0.
    Margin,
}

/// What a request produced, as the queue stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The images, in order.
    pub images: Vec<OutputImage>,
    /// Where the time went.
    pub seconds: StageSeconds,
    /// The seed that was used.
    pub seed: Seed,
    /// For each image: whether the safety checker found it unsafe.
    pub flagged: Vec<bool>,
    /// One score an image; empty if no checker ran, or in an older row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Score>,
    /// The prompt that was used.
    pub prompt: String,
}
