//! What a picture request is once it is valid, and what came of it. Knows no wire and no tensor.

use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Denoising steps a request may ask for.
pub const STEPS: RangeInclusive<i64> = 1..=50;
/// Guidance scales a request may ask for.
pub const GUIDANCE: RangeInclusive<f64> = 0.0..=20.0;
/// Pictures a request may ask for.
pub const NUM_IMAGES: RangeInclusive<i64> = 1..=4;
/// Longest side any model may be asked for.
pub const MAX_SIDE: i64 = 14_142;
/// Longest prompt in characters: far beyond what the text encoders read.
pub const MAX_PROMPT_CHARS: usize = 50_000;

/// What the loaded model can paint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest side in pixels.
    pub max_side: usize,
}

/// File format of the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// Lossy, quality 95.
    Jpeg,
    /// Lossless.
    Png,
}

/// A valid request: every default filled in, the seed fixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRequest {
    /// What to paint.
    pub prompt: String,
    /// What to avoid.
    pub negative_prompt: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Classifier-free guidance scale.
    pub guidance: f64,
    /// Seed of the noise.
    pub seed: i64,
    /// Pictures to paint.
    pub num_images: usize,
    /// File format.
    pub format: OutputFormat,
    /// Put the pictures into the output itself and keep no file.
    pub inline: bool,
    /// Look for unsafe content, where a checker is loaded.
    pub check_safety: bool,
}

/// A seed for a request that named none: small enough for every JSON reader.
pub fn draw_seed() -> i64 {
    i64::from(rand::random::<u32>())
}

/// Where a finished picture is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In storage, under this key.
    Stored(String),
    /// Here, in base64.
    Inline(String),
}

/// One finished picture.
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
    /// Making files of the pixels.
    pub encode: f64,
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

/// What a request produced, as the queue stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The pictures, in order.
    pub images: Vec<OutputImage>,
    /// Where the time went.
    pub seconds: StageSeconds,
    /// The seed that was used.
    pub seed: i64,
    /// For each picture: was it found unsafe?
    pub flagged: Vec<bool>,
    /// The prompt that was used.
    pub prompt: String,
}
