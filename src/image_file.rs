//! 8-bit images to files and back: JPEG, PNG and WebP, with the settings that generated them.

mod decode;
mod scale;
mod settings;
mod xmp;

pub(crate) use decode::{DecodeError, MAX_SIDE, decode, decode_transparency};
pub(crate) use scale::scaled;
pub(crate) use settings::Settings;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use latentd_models::Image;

/// The quality of lossy files whose request names none: that of fal's toolkit.
pub(crate) const DEFAULT_QUALITY: u8 = 95;

/// Of a preview: a few KB for a glance.
const PREVIEW_QUALITY: u8 = 75;

/// A file format, with the quality of a lossy one, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Jpeg(u8),
    Png,
    WebP(u8),
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageFileError {
    #[error("JPEG: {0}")]
    Jpeg(#[from] image::ImageError),
    #[error("PNG: {0}")]
    Png(#[from] png::EncodingError),
    #[error("WebP: {0:?}")]
    WebP(webp::WebPEncodingError),
}

impl Format {
    /// Judges by a file name's extension.
    pub(crate) fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" => Some(Self::Jpeg(DEFAULT_QUALITY)),
            "png" => Some(Self::Png),
            "webp" => Some(Self::WebP(DEFAULT_QUALITY)),
            _ => None,
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg(_) => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP(_) => "image/webp",
        }
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Jpeg(_) => "jpeg",
            Self::Png => "png",
            Self::WebP(_) => "webp",
        }
    }
}

/// The bytes of a file. `text` (keyword, value) goes into text chunks of a PNG, and as XMP into the other formats.
pub(crate) fn encode(
    image: &Image,
    format: Format,
    text: &[(&str, String)],
) -> Result<Vec<u8>, ImageFileError> {
    match format {
        Format::Jpeg(quality) => {
            let file = encode_jpeg(image, quality)?;
            Ok(if text.is_empty() { file } else { xmp::into_jpeg(file, &xmp::packet(text)) })
        }
        Format::Png => encode_png(image, text),
        Format::WebP(quality) => {
            let file = encode_webp(image, quality)?;
            let size = (image.width, image.height);
            Ok(if text.is_empty() { file } else { xmp::into_webp(&file, size, &xmp::packet(text)) })
        }
    }
}

/// The bytes of a small JPEG.
pub(crate) fn encode_preview(image: &Image) -> Result<Vec<u8>, ImageFileError> {
    encode_jpeg(image, PREVIEW_QUALITY)
}

fn encode_jpeg(image: &Image, quality: u8) -> Result<Vec<u8>, ImageFileError> {
    let mut bytes = Vec::new();
    let (width, height) = (image.width as u32, image.height as u32);
    // The encoder knows qualities from 1.
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, quality.max(1));
    encoder.encode(&image.rgb, width, height, ExtendedColorType::Rgb8)?;
    Ok(bytes)
}

fn encode_png(image: &Image, text: &[(&str, String)]) -> Result<Vec<u8>, ImageFileError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    for (keyword, value) in text {
        // iTXt and not tEXt: prompts are in every script.
        encoder.add_itxt_chunk((*keyword).to_owned(), value.clone())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.rgb)?;
    writer.finish()?;
    Ok(bytes)
}

/// Lossy, by Google's libwebp.
fn encode_webp(image: &Image, quality: u8) -> Result<Vec<u8>, ImageFileError> {
    let (width, height) = (image.width as u32, image.height as u32);
    let encoder = webp::Encoder::from_rgb(&image.rgb, width, height);
    let file = encoder.encode_simple(false, quality.into()).map_err(ImageFileError::WebP)?;
    Ok(file.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn gradient() -> Image {
        let (width, height) = (37, 21);
        let rgb =
            (0..width * height).flat_map(|i| [(i % width * 6) as u8, (i / width * 12) as u8, 128]).collect();
        Image { width, height, rgb }
    }

    #[test]
    fn png_keeps_every_byte_and_the_text() {
        let image = gradient();
        let text = [("prompt", "庭の🦊".to_owned()), ("seed", "-7".to_owned())];
        let bytes = encode(&image, Format::Png, &text).expect("a PNG");
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().expect("a header");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        reader.next_frame(&mut pixels).expect("pixels");
        assert_eq!(pixels, image.rgb);
        let read = &reader.info().utf8_text;
        assert_eq!(read.len(), text.len());
        for ((keyword, value), read) in text.iter().zip(read) {
            assert_eq!((*keyword, value), (read.keyword.as_str(), &read.get_text().expect("text")));
        }
    }

    /// An odd length of the packet and an even one: RIFF's chunks are padded.
    #[test]
    fn jpeg_and_webp_have_the_text_as_xmp_and_the_same_pixels() {
        let image = gradient();
        for (format, prompt) in [Format::Jpeg(95), Format::WebP(95)]
            .into_iter()
            .flat_map(|format| ["a <fox> & 庭", "a <fox> & 庭!"].map(|prompt| (format, prompt.to_owned())))
        {
            let text = [("prompt", prompt.clone()), ("seed", "7".to_owned())];
            let (plain, bytes) =
                (encode(&image, format, &[]).expect("a file"), encode(&image, format, &text));
            let bytes = bytes.expect("a file");
            assert_eq!(decode(&bytes).expect("pixels").rgb, decode(&plain).expect("pixels").rgb);
            let mut decoder = image::ImageReader::new(std::io::Cursor::new(&bytes))
                .with_guessed_format()
                .and_then(|reader| reader.into_decoder().map_err(std::io::Error::other))
                .expect("a header");
            let packet = image::ImageDecoder::xmp_metadata(&mut decoder).expect("a header").expect("XMP");
            let packet = String::from_utf8(packet).expect("UTF-8");
            let xml = prompt.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            assert!(packet.contains(&format!("<latentd:prompt>{xml}</latentd:prompt>")), "{packet}");
        }
    }

    /// Quality 95 keeps a smooth image within a few levels, and less of it makes a smaller file.
    #[test]
    fn lossy_files_stay_close() {
        let image = gradient();
        for (format, low) in [
            (Format::Jpeg(DEFAULT_QUALITY), Format::Jpeg(0)),
            (Format::WebP(DEFAULT_QUALITY), Format::WebP(0)),
        ] {
            let bytes = encode(&image, format, &[]).expect("a file");
            let decoded = decode(&bytes).expect("pixels");
            assert_eq!((decoded.width, decoded.height), (37, 21));
            let off: Vec<u8> = decoded.rgb.iter().zip(&image.rgb).map(|(a, b)| a.abs_diff(*b)).collect();
            let worst = off.iter().max();
            assert!(worst < Some(&16), "{format:?}: off by {worst:?}");
            assert!(encode(&image, low, &[]).expect("a file").len() < bytes.len(), "{low:?}");
        }
    }
}
