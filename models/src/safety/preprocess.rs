//! A picture as the classifier wants it (transformers `ViTImageProcessor` on Pillow).

use super::config::PreprocessorConfig;
use crate::Picture;
use crate::resize::{Filter, resize};
use candle_core::{Device, Result, Tensor};

/// Resizes, then brings bytes to the range the classifier was trained in.
pub(super) struct Preprocessor {
    height: usize,
    width: usize,
    /// What each byte becomes, by channel.
    levels: [Vec<f32>; 3],
}

impl Preprocessor {
    pub(super) fn new(config: &PreprocessorConfig) -> Self {
        let (height, width) = config.size();
        let (mean, deviation) = config.normalisation();
        let factor = config.factor();
        // numpy rescales in f64, rounds, and normalises in f32.
        let level = |byte: u8, channel: usize| {
            ((f64::from(byte) * factor) as f32 - mean[channel]) / deviation[channel]
        };
        let levels = [0, 1, 2].map(|channel| (0..=255).map(|byte| level(byte, channel)).collect());
        Self { height, width, levels }
    }

    /// `[3, H, W]` f32 on the CPU.
    pub(super) fn pixels(&self, picture: &Picture) -> Result<Tensor> {
        let rgb = resize(picture, self.width, self.height, Filter::Bilinear).rgb;
        let channel = |index: usize| rgb.iter().skip(index).step_by(3).map(move |byte| (index, *byte));
        let values = (0..3).flat_map(channel).map(|(index, byte)| self.levels[index][usize::from(byte)]);
        Tensor::from_vec(values.collect(), (3, self.height, self.width), &Device::Cpu)
    }
}
