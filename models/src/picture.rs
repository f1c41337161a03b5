//! Decoded pixels to 8 bits.

use crate::Result;
use candle_core::{DType, Tensor};

/// An 8-bit RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// `[height, width, 3]` bytes, row by row.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// The middle of the picture.
    pub(crate) fn middle(self, width: usize, height: usize) -> Self {
        if (self.width, self.height) == (width, height) {
            return self;
        }
        let (left, top) = ((self.width - width) / 2, (self.height - height) / 2);
        let rows = self.rgb.chunks_exact(3 * self.width).skip(top).take(height);
        let rgb = rows.flat_map(|row| &row[3 * left..3 * (left + width)]).copied().collect();
        Self { width, height, rgb }
    }
}

/// Pixels `[1, 3, H, W]` in about -1..1, rounded half to even as numpy does (diffusers `VaeImageProcessor`).
pub(crate) fn from_pixels(pixels: &Tensor) -> Result<Picture> {
    let (_, _, height, width) = pixels.dims4()?;
    let pixels = pixels.squeeze(0)?.permute((1, 2, 0))?.to_dtype(DType::F32)?;
    let pixels: Vec<f32> = pixels.flatten_all()?.to_vec1()?;
    let byte = |x: &f32| ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    Ok(Picture { width, height, rgb: pixels.iter().map(byte).collect() })
}
