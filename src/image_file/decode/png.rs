//! PNG files, made smaller a band of rows at a time: they take the memory of the smaller image.

use super::DecodeError;
use image::{DynamicImage, GrayAlphaImage, GrayImage, RgbImage, RgbaImage};
use png::{ColorType, Decoder, Limits, Transformations};
use std::io::Cursor;

/// Bytes of rows and of what the decoder keeps beside them.
const MAX_BYTES: usize = 16_000_000;

impl From<png::DecodingError> for DecodeError {
    fn from(error: png::DecodingError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The means of squares of `factor` pixels; `None` of an interlaced file, whose rows come in no such order.
pub(super) fn reduced(bytes: &[u8], factor: u32) -> Result<Option<RgbImage>, DecodeError> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_BYTES });
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info()?;
    let info = reader.info();
    if info.interlaced {
        return Ok(None);
    }
    let (width, height) = (info.width, info.height);
    let (reduced_width, reduced_height) = (width.div_ceil(factor), height.div_ceil(factor));
    let color = reader.output_color_type().0;
    let mut pixels = Vec::with_capacity(3 * reduced_width as usize * reduced_height as usize);
    for band in 0..reduced_height {
        let rows = factor.min(height - band * factor);
        let mut bytes = Vec::with_capacity(color.samples() * width as usize * rows as usize);
        for _ in 0..rows {
            let row = reader.next_row()?;
            let row = row.ok_or_else(|| DecodeError::Unreadable("it ends before its last row".into()))?;
            bytes.extend_from_slice(row.data());
        }
        let band = of_rows(color, width, rows, bytes);
        let band = band.ok_or_else(|| DecodeError::Unreadable("its rows have no such colours".into()))?;
        pixels.extend_from_slice(band.thumbnail_exact(reduced_width, 1).to_rgb8().as_raw());
    }
    Ok(RgbImage::from_raw(reduced_width, reduced_height, pixels))
}

/// An image of some rows; `None` where there are no such colours with 8 bits.
fn of_rows(color: ColorType, width: u32, rows: u32, bytes: Vec<u8>) -> Option<DynamicImage> {
    match color {
        ColorType::Grayscale => GrayImage::from_raw(width, rows, bytes).map(DynamicImage::from),
        ColorType::GrayscaleAlpha => GrayAlphaImage::from_raw(width, rows, bytes).map(DynamicImage::from),
        ColorType::Rgb => RgbImage::from_raw(width, rows, bytes).map(DynamicImage::from),
        ColorType::Rgba => RgbaImage::from_raw(width, rows, bytes).map(DynamicImage::from),
        ColorType::Indexed => None,
    }
}
