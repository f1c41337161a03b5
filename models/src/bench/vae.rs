//! Measuring the VAE's decoder alone, of full size and with random weights.

use super::{INPUTS, preset};
use crate::decode::{DecodeStage, Decoding};
use crate::planted::Planted;
use crate::target::Target;
use crate::vae::Decoder;
use crate::weights::Weights;
use crate::{Error, LoadOptions, Result, random};
use candle_core::Device;
use std::time::Instant;

/// The decoder of every SD3.5 model, ready to run.
pub struct DecodeBench {
    decode_stage: DecodeStage,
    latent_channels: usize,
}

impl DecodeBench {
    /// Random weights, made on the device.
    ///
    /// # Errors
    /// The device cannot be used, or has too little memory.
    pub fn synthetic(options: &LoadOptions) -> Result<Self> {
        let target = Target::new(options)?;
        let config = preset::vae().map_err(|error| Error::Model(error.to_string()))?;
        let decoder = Decoder::load(&Weights::random("vae", &target)?, &config)?;
        let decode_stage = DecodeStage { decoder, safety: None, target, planted: Planted::default() };
        Ok(Self { decode_stage, latent_channels: config.latent_channels })
    }

    /// Decodes random latents of an image of `width` and `height` pixels; returns the seconds that it took.
    ///
    /// # Errors
    /// The device failed, or has too little memory.
    pub fn run(&self, width: usize, height: usize, decoding: Decoding) -> Result<f64> {
        let factor = self.decode_stage.decoder.factor();
        let shape = [1, self.latent_channels, height / factor, width / factor];
        random::seed(&Device::Cpu, INPUTS)?;
        let latents = random::normal("latents", &shape, 0.0, 1.0, &Device::Cpu)?;
        let begun = Instant::now();
        self.decode_stage.image_pixels(&latents, decoding)?.to_device(&Device::Cpu)?;
        Ok(begun.elapsed().as_secs_f64())
    }
}
