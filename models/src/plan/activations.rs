//! Memory that generating takes in addition to the weights: the tensors that are alive at each stage's worst moment.
//!
//! The counts are read off the code of each stage and say what holds them. A tensor is alive until its owner's scope
//! ends, not until it was used last, and candle frees it then. An arena for captured steps is laid out by the same lifetimes.

use super::Work;
use super::weights::LoadedFormat;
use crate::config::{TransformerConfig, VaeConfig};
use crate::denoise::CAPTURED_SIZES;
use crate::vae::Tiles;
use crate::weight_file::TensorHeader;
use crate::{DType, Device};

/// Tokens of the two CLIP encoders, which share their places.
pub(super) const CLIP_TOKENS: u64 = 77;

/// Tokens of an image prompt of published IP-Adapters.
const IMAGE_TOKENS: u64 = 64;

/// Bytes of each stage at its worst moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activations {
    /// The text encoders, which read one prompt at a time.
    pub text: u64,
    /// The VAE's encoder, where requests may start from an image.
    pub init_image: u64,
    /// The loop.
    pub denoise: u64,
    /// The VAE's decoder, which makes one image at a time.
    pub decode: u64,
    /// The same in tiles, which is how a device whose memory has run out decodes.
    pub decode_in_tiles: u64,
}

/// Where and how values are computed.
#[derive(Clone, Copy)]
pub(super) struct Estimator {
    cpu: bool,
    /// Bytes of an activation.
    element: u64,
}

impl Estimator {
    pub(super) fn new(dtype: DType, device: Device) -> Self {
        Self { cpu: device == Device::Cpu, element: LoadedFormat::new(dtype, device).element }
    }

    /// What the processor's products pack of their weights, `[outputs, inputs]` in f32.
    fn packed(self, outputs: u64, inputs: u64) -> u64 {
        if self.cpu { 4 * outputs * inputs } else { 0 }
    }

    /// What the processor's attention gathers of keys and values, in f32: two of `tokens x width`.
    fn gathered(self, tokens: u64, width: u64) -> u64 {
        if self.cpu { 2 * 4 * tokens * width } else { 0 }
    }

    /// Values a pixel that a 3x3 convolution of `input` channels takes in addition to its input and output. On a GPU those in f32
    /// are candle's: the input is copied into its order, nine neighbours of every channel are gathered, and so is the product.
    fn gathered_neighbours(self, input: u64, output: u64) -> u64 {
        if self.cpu || self.element < 4 { 0 } else { 10 * input + output }
    }

    /// The loop (`Mmdit::prepare`, then `Block::forward` of the widest block).
    pub(super) fn denoise(self, config: &TransformerConfig, factor: usize, work: &Work) -> u64 {
        let (width, batch) = (config.width() as u64, work.images as u64 * if work.guided { 2 } else { 1 });
        let side = |pixels: usize| pixels.div_ceil(factor * config.patch_size) as u64;
        let image = side(work.width) * side(work.height);
        let text = CLIP_TOKENS + work.t5_tokens as u64;
        let value = batch * width * self.element;

        // Every step's rows of all adaLN: six of image and text a block, three more where attention is dual, and in the
        // last block two of the text; then the last layer's two.
        let (blocks, dual) = (config.num_layers as u64, config.dual_attention_layers.len() as u64);
        let modulations = work.steps as u64 * (12 * blocks - 4 + 3 * dual + 2) * value;
        // They are made layer by layer, then copied into one.
        let preparing = 2 * modulations + text * value;

        // What a block holds to its end: q, k, v of image and text, the same in one, what attention gave, the streams.
        let held = 8 * (image + text) * value;
        let attention = self.gathered(batch * (image + text), width);
        // The image's MLP: sum, norm, four times the width, and its output; on a GPU the text's at the same time.
        let mlp =
            if self.cpu { 6 * image } else { 6 * (image + text) } * value + self.packed(4 * width, width);
        // A second attention: sum so far, norm, q, k, v, the same in one, what attention gave.
        let second = if dual == 0 { 0 } else { 9 * image * value + self.gathered(batch * image, width) };
        let step = held + attention.max(mlp).max(second);
        let request = modulations + text * value;
        if self.cpu {
            return preparing.max(request + step);
        }
        // The arena of captured steps stays, and a step of another size is warmed up while it is there. Each size also keeps what
        // its step reads: text, positions, and a step's modulations (`denoise/captured.rs`).
        let buffers = text * value + image * width * self.element + modulations / work.steps.max(1) as u64;
        // A step with skip-layer guidance is not captured: it computes beside the arena.
        let arenas = if work.skip_layers { 2 } else { 1 };
        CAPTURED_SIZES as u64 * buffers + arenas * step + preparing.max(request + step)
    }

    /// What an IP-Adapter's attention takes in addition to the block's own: q, k and v of the image and of the tokens in one,
    /// what attention gave, that scaled, and their sum.
    pub(super) fn image_attention(self, config: &TransformerConfig, factor: usize, work: &Work) -> u64 {
        let (width, batch) = (config.width() as u64, work.images as u64 * if work.guided { 2 } else { 1 });
        let tokens =
            config.tokens(work.height.div_ceil(factor), work.width.div_ceil(factor)) as u64 + IMAGE_TOKENS;
        6 * batch * tokens * width * self.element + self.gathered(batch * tokens, width)
    }

    /// The VAE's decoder, one image as a whole.
    pub(super) fn decode(self, config: &VaeConfig, work: &Work) -> u64 {
        self.decode_latents(config, latent_pixels(config, work))
    }

    /// The VAE's decoder, one image in tiles, of which the pixels go to the host (`Tiles::decode`).
    pub(super) fn decode_in_tiles(self, config: &VaeConfig, work: &Work) -> u64 {
        let [height, width] = [work.height, work.width].map(|pixels| pixels.div_ceil(config.factor()));
        let (rows, columns) = Tiles::of(height, width, config.factor()).latents(height, width);
        // Three channels of the image, and of two rows of tiles at most, in f32.
        let together = if self.cpu { 3 * 3 * 4 * (work.width * work.height) as u64 } else { 0 };
        self.decode_latents(config, (rows * columns) as u64) + together
    }

    /// So many latents (`Decoder::decode`).
    fn decode_latents(self, config: &VaeConfig, mut pixels: u64) -> u64 {
        let widths: Vec<u64> = config.block_out_channels.iter().rev().map(|width| *width as u64).collect();
        let mut worst = self.middle(widths[0], pixels);
        for (level, output) in widths.iter().copied().enumerate() {
            let input = widths[level.saturating_sub(1)];
            worst = worst.max(pixels * self.resnet(input, output) * self.element);
            if level + 1 < widths.len() {
                // The map as it is, doubled, and convolved.
                let neighbours = self.gathered_neighbours(output, output);
                let doubled = output + if neighbours == 0 { 0 } else { output };
                worst = worst.max(pixels * (output + 4 * (doubled + neighbours)) * self.element);
                pixels *= 4;
            }
        }
        // The last map and its norm, then three channels, once more in f32 and as they lie in an image.
        let last = widths[widths.len() - 1];
        let out = pixels * (2 * last + self.gathered_neighbours(last, 3)) * self.element;
        worst.max(out + pixels * 3 * (self.element + 4 + 4))
    }

    /// The VAE's encoder (`Encoder::encode`), one image.
    pub(super) fn init_image(self, config: &VaeConfig, work: &Work) -> u64 {
        let widths: Vec<u64> = config.block_out_channels.iter().map(|width| *width as u64).collect();
        let levels = 2 * (widths.len() - 1) as u32;
        let latents = latent_pixels(config, work);
        let mut worst = 0;
        for (level, output) in widths.iter().copied().enumerate() {
            let input = widths[level.saturating_sub(1)];
            let pixels = latents << (levels - 2 * level as u32);
            worst = worst.max(pixels * self.resnet(input, output) * self.element);
        }
        worst.max(self.middle(widths[widths.len() - 1], latents))
    }

    /// Values a pixel of a residual block that reads `input` channels: first its input, that normed and what is made of
    /// it; then, to the block's end, its input, the first half's result, that normed or added up, the second half's
    /// result, and a shortcut where the widths differ.
    fn resnet(self, input: u64, output: u64) -> u64 {
        let first = 2 * input + output + self.gathered_neighbours(input, output);
        let second = input + if input == output { 3 } else { 4 } * output;
        first.max(second + self.gathered_neighbours(output, output))
    }

    /// The deepest block of either half: its attention holds map, norm, tokens, q, k, v, the same once more (`joint_qkv`
    /// copies), then keys and values and what attention gave.
    fn middle(self, width: u64, pixels: u64) -> u64 {
        let value = pixels * width * self.element;
        let attention = (9 * value).max(7 * value + self.gathered(pixels, width));
        attention.max(pixels * self.resnet(width, width) * self.element)
    }

    /// The largest text encoder, one prompt: scores are f32 and there are three of them at once: T5's bias, what a
    /// product or a sum is made of, and what becomes of that. Sizes are read off the tensors.
    pub(super) fn text(self, tensors: &[TensorHeader], tokens: u64) -> u64 {
        let shape = |ending: &str| {
            let tensor = tensors.iter().find(|tensor| tensor.name.ends_with(ending))?;
            Some([*tensor.shape.first()? as u64, *tensor.shape.get(1)? as u64])
        };
        let query = shape("SelfAttention.q.weight").or_else(|| shape("self_attn.q_proj.weight"));
        let mlp = ["DenseReluDense.wi_0.weight", "DenseReluDense.wi.weight", "mlp.fc1.weight"];
        let mlp = mlp.iter().find_map(|name| shape(name));
        let (Some([inner, width]), Some([hidden, _])) = (query, mlp) else { return 0 };
        // T5 says how many heads it has; CLIP's are 64 wide.
        let heads = shape("relative_attention_bias.weight").map_or(inner.div_ceil(64), |[_, heads]| heads);
        let attention = 3 * 4 * heads * tokens * tokens + tokens * inner * (3 * self.element + 3 * 4);
        let mlp = 3 * tokens * hidden * self.element;
        3 * tokens * width * self.element + attention.max(mlp)
    }
}

fn latent_pixels(config: &VaeConfig, work: &Work) -> u64 {
    let side = |pixels: usize| pixels.div_ceil(config.factor()) as u64;
    side(work.width) * side(work.height)
}
