//! Decoded pixels to 8 bits.

use crate::{Result, Stage, finite};
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

/// An 8-bit RGB image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// `[height, width, 3]` bytes, row by row.
    pub rgb: Vec<u8>,
}

impl Image {
    /// The image in the middle of a canvas at least as large, its outermost pixels repeated around it.
    pub(crate) fn on_canvas(self, width: usize, height: usize) -> Self {
        if (self.width, self.height) == (width, height) {
            return self;
        }
        let (left, top) = ((width - self.width) / 2, (height - self.height) / 2);
        let row = |y: usize| y.saturating_sub(top).min(self.height - 1) * self.width;
        let column = |x: usize| x.saturating_sub(left).min(self.width - 1);
        let pixel = |(x, y): (usize, usize)| 3 * (row(y) + column(x));
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb = places.map(pixel).flat_map(|at| &self.rgb[at..at + 3]).copied().collect();
        Self { width, height, rgb }
    }

    /// The middle of the image.
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

/// SHA-256 of images in hexadecimal digits.
pub(crate) fn digest<'a>(images: impl IntoIterator<Item = &'a Image>) -> String {
    let mut hash = Sha256::new();
    for Image { width, height, rgb } in images {
        hash.update(format!("{width}x{height}"));
        hash.update(rgb);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Pixels `[1, 3, H, W]` f32 in -1..1 on `device`.
pub(crate) fn to_pixels(image: &Image, device: &Device) -> Result<Tensor> {
    of_bytes(image, |byte| byte / 255.0 * 2.0 - 1.0, device)
}

/// The same in 0.5..128, as Stability's ControlNet for canny edges has them (sd3_infer.py:398-399).
pub(crate) fn to_canny_pixels(image: &Image, device: &Device) -> Result<Tensor> {
    of_bytes(image, |byte| byte / 255.0 * 255.0 * 0.5 + 0.5, device)
}

fn of_bytes(image: &Image, pixel: impl Fn(f32) -> f32, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = image.rgb.iter().map(|byte| pixel(f32::from(*byte))).collect();
    let pixels = Tensor::from_vec(values, (1, image.height, image.width, 3), device)?;
    Ok(pixels.permute((0, 3, 1, 2))?.contiguous()?)
}

/// Pixels `[1, 3, H, W]` in about -1..1, rounded half to even as numpy does (diffusers `VaeImageProcessor`).
///
/// # Errors
/// [`crate::Error::NonFinite`]: rounding would make black of a NaN, as of what is found unsafe.
pub(crate) fn from_pixels(pixels: &Tensor) -> Result<Image> {
    let (_, _, height, width) = pixels.dims4()?;
    let pixels = pixels.squeeze(0)?.permute((1, 2, 0))?.to_dtype(DType::F32)?;
    let pixels: Vec<f32> = pixels.flatten_all()?.to_vec1()?;
    finite::check_values(&pixels, Stage::VaeDecoder)?;
    let byte = |x: &f32| ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    Ok(Image { width, height, rgb: pixels.iter().map(byte).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_canvas_is_the_image() {
        let image = Image { width: 3, height: 2, rgb: (0..18).collect() };
        let canvas = image.clone().on_canvas(8, 4);
        assert_eq!(canvas.rgb[..9], [0, 1, 2, 0, 1, 2, 0, 1, 2], "the corner is repeated");
        assert_eq!(canvas.rgb[canvas.rgb.len() - 3..], [15, 16, 17]);
        assert_eq!(canvas.middle(3, 2), image);
    }
}
