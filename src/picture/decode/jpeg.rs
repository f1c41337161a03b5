//! JPEG files, decoded at a fraction of their size: an inverse transform of fewer frequencies is a smaller picture.

use super::DecodeError;
use image::RgbImage;
use jpeg_decoder::{CodingProcess, Decoder, PixelFormat};

impl From<jpeg_decoder::Error> for DecodeError {
    fn from(error: jpeg_decoder::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Does the file hold its picture in layers, all of which are needed for any of it?
pub(super) fn is_progressive(bytes: &[u8]) -> bool {
    let mut decoder = Decoder::new(bytes);
    let is_read = decoder.read_info().is_ok();
    is_read && decoder.info().is_some_and(|info| info.coding_process == CodingProcess::DctProgressive)
}

/// The picture with sides divided by 2, 4 or 8, whichever is no less than `factor`; `None` where that does not help.
pub(super) fn reduced(bytes: &[u8], factor: u32) -> Result<Option<RgbImage>, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    decoder.read_info()?;
    let Some(info) = decoder.info() else { return Ok(None) };
    if info.coding_process != CodingProcess::DctSequential {
        return Ok(None);
    }
    let factor = u16::try_from(factor.next_power_of_two().clamp(2, 8)).unwrap_or(8);
    let (width, height) = decoder.scale(info.width.div_ceil(factor), info.height.div_ceil(factor))?;
    let pixels = decoder.decode()?;
    let rgb = match info.pixel_format {
        PixelFormat::L8 => pixels.into_iter().flat_map(|level| [level; 3]).collect(),
        PixelFormat::RGB24 => pixels,
        PixelFormat::L16 | PixelFormat::CMYK32 => return Ok(None),
    };
    Ok(RgbImage::from_raw(u32::from(width), u32::from(height), rgb))
}
