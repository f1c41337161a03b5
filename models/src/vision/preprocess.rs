//! An image as a network wants it (transformers `ViTImageProcessor`, `CLIPImageProcessor` and `SiglipImageProcessor` on
//! Pillow).

use super::processing::Processing;
use crate::Image;
use crate::resize::resize_part;
use candle_core::{Device, Result, Tensor};

/// Resizes, cuts the middle out, then scales bytes to the range the network was trained in.
pub(crate) struct Preprocessor {
    processing: Processing,
    /// What each byte becomes, by channel.
    levels: [Vec<f32>; 3],
}

impl Preprocessor {
    pub(crate) fn new(processing: Processing) -> Self {
        let Processing { factor, mean, deviation, .. } = processing;
        // numpy rescales in f64, rounds, and normalises in f32.
        let level = |byte: u8, channel: usize| {
            ((f64::from(byte) * factor) as f32 - mean[channel]) / deviation[channel]
        };
        let levels = [0, 1, 2].map(|channel| (0..=255).map(|byte| level(byte, channel)).collect());
        Self { processing, levels }
    }

    /// `[3, H, W]` f32 on the CPU.
    pub(crate) fn pixels(&self, image: &Image) -> Result<Tensor> {
        let ((tall, wide), rows, columns) = self.processing.place(image.height, image.width);
        let rgb = resize_part(image, (wide, tall), &columns, &rows, self.processing.filter).rgb;
        let channel = |index: usize| rgb.iter().skip(index).step_by(3).map(move |byte| (index, *byte));
        let values = (0..3).flat_map(channel).map(|(index, byte)| self.levels[index][usize::from(byte)]);
        Tensor::from_vec(values.collect(), (3, rows.len(), columns.len()), &Device::Cpu)
    }
}
