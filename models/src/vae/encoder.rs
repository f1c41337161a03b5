//! The VAE's encoder (diffusers `AutoencoderKL.encode`).

use super::blocks::{Middle, Resnet};
use crate::config::VaeConfig;
use crate::layers::{Conv2d, GroupNorm};
use crate::ops::Activation;
use crate::weights::{Scope, Weights};
use crate::{Stage, finite};
use candle_core::{DType, Result, Tensor};

/// Pixels to the distribution of their latents.
pub(crate) struct Encoder {
    conv_in: Conv2d,
    down: Vec<DownBlock>,
    mid: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    quant: Option<Conv2d>,
    config: VaeConfig,
}

struct DownBlock {
    resnets: Vec<Resnet>,
    /// A convolution that halves both sides; the last block has none.
    downsample: Option<Conv2d>,
}

/// A normal distribution over latents, each value with its own mean and deviation (diffusers
/// `DiagonalGaussianDistribution`).
pub(crate) struct Posterior {
    /// `[B, C, h, w]` f32.
    pub(crate) mean: Tensor,
    /// `[B, C, h, w]` f32.
    deviation: Tensor,
}

impl Posterior {
    /// The samples that standard normal `noise` picks, `[B, C, h, w]`; of the distribution of one image any number.
    pub(crate) fn sample(&self, noise: &Tensor) -> Result<Tensor> {
        noise.broadcast_mul(&self.deviation)?.broadcast_add(&self.mean)
    }
}

impl Encoder {
    /// `None` for a VAE that has no encoder.
    pub(crate) fn load(weights: &Weights, config: &VaeConfig) -> Result<Option<Self>> {
        weights.ignore(|name| name.starts_with("decoder.") || name.starts_with("post_quant_conv."));
        if !weights.has("encoder.conv_in.weight") {
            return Ok(None);
        }
        let (root, scope) = (weights.root(), weights.root().at("encoder"));
        let widths = &config.block_out_channels;
        let (finest, deepest) = (widths[0], widths[widths.len() - 1]);
        let moments = 2 * config.latent_channels;
        let down = (0..widths.len()).map(|index| {
            let input = widths[index.saturating_sub(1)];
            let last = index + 1 == widths.len();
            DownBlock::load(&scope.at("down_blocks").at(index), (input, widths[index]), last, config)
        });
        let quant = || Conv2d::load(&root.at("quant_conv"), moments, moments, 1);
        Ok(Some(Self {
            conv_in: Conv2d::load(&scope.at("conv_in"), config.in_channels, finest, 3)?,
            down: down.collect::<Result<_>>()?,
            mid: Middle::load(&scope.at("mid_block"), deepest, config)?,
            norm_out: GroupNorm::load(&scope.at("conv_norm_out"), deepest, config.norm_num_groups)?,
            conv_out: Conv2d::load(&scope.at("conv_out"), deepest, moments, 3)?,
            quant: config.use_quant_conv.then(quant).transpose()?,
            config: config.clone(),
        }))
    }

    /// Pixels `[B, 3, H, W]` in -1..1.
    pub(crate) fn encode(&self, pixels: &Tensor) -> Result<Posterior> {
        let mut x = self.conv_in.forward(pixels)?;
        for block in &self.down {
            x = block.forward(x)?;
        }
        x = self.norm_out.forward(&self.mid.forward(&x)?, Activation::Silu)?;
        x = self.conv_out.forward(&x)?;
        if let Some(conv) = &self.quant {
            x = conv.forward(&x)?;
        }
        // Before the clamp below takes a NaN for a number.
        finite::check(&x, Stage::VaeEncoder).map_err(crate::Error::carried)?;
        let moments = x.to_dtype(DType::F32)?.chunk(2, 1)?;
        let deviation = (moments[1].clamp(-30f32, 20f32)? * 0.5)?.exp()?;
        Ok(Posterior { mean: moments[0].clone(), deviation })
    }

    /// Latents as the transformer knows them, of a sample `[B, C, h, w]`; some ControlNets know them without the shift.
    pub(crate) fn normalise(&self, sample: &Tensor, is_shifted: bool) -> Result<Tensor> {
        let shift = self.config.shift_factor.filter(|_| is_shifted).unwrap_or(0.0);
        (sample - shift)? * self.config.scaling_factor
    }
}

impl DownBlock {
    fn load(scope: &Scope, (input, output): (usize, usize), last: bool, config: &VaeConfig) -> Result<Self> {
        let resnets = (0..config.layers_per_block).map(|index| {
            let input = if index == 0 { input } else { output };
            Resnet::load(&scope.at("resnets").at(index), input, output, config.norm_num_groups)
        });
        let downsample = || Conv2d::load(&scope.at("downsamplers.0.conv"), output, output, 3);
        let downsample = (!last).then(downsample).transpose()?;
        Ok(Self { resnets: resnets.collect::<Result<_>>()?, downsample })
    }

    fn forward(&self, mut x: Tensor) -> Result<Tensor> {
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        match &self.downsample {
            Some(conv) => conv.forward_downsampled(&x),
            None => Ok(x),
        }
    }
}
