//! JPEG files, decoded at a fraction of their size: an inverse transform of fewer frequencies is a smaller image.

use super::DecodeError;
use image::RgbImage;
use jpeg_decoder::{CodingProcess, Decoder, PixelFormat};

impl From<jpeg_decoder::Error> for DecodeError {
    fn from(error: jpeg_decoder::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Does the file reach the end of its image? Decoders make grey of what is cut off; Pillow refuses it, and so do we.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END: u8 = 0xd9;
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        // A marker is FF, maybe several times, and a byte that says which; in a scan FF 00 is data, and FF D0 to D7 go on.
        let Some(at) = rest.iter().position(|byte| *byte == 0xff) else { return false };
        rest = &rest[at..];
        let Some(fill) = rest.iter().position(|byte| *byte != 0xff) else { return false };
        let marker = rest[fill];
        rest = &rest[fill + 1..];
        match marker {
            END => return true,
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = rest.first_chunk().map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)));
                let Some(after) = rest.get(length..) else { return false };
                rest = after;
                if marker == START_OF_SCAN && rest.is_empty() {
                    return false;
                }
            }
        }
    }
}

/// Does the file hold its image in layers, all of which are needed for any of it?
pub(super) fn is_progressive(bytes: &[u8]) -> bool {
    let mut decoder = Decoder::new(bytes);
    let is_read = decoder.read_info().is_ok();
    is_read && decoder.info().is_some_and(|info| info.coding_process == CodingProcess::DctProgressive)
}

/// The image with sides divided by 2, 4 or 8, whichever is no less than `factor`; `None` where that does not help.
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
