//! Files of clients to images, within a bound of memory that does not depend on the file. What would take more is
//! made smaller while it is decoded, where its format allows that, and refused otherwise.

mod avif;
mod format;
mod jpeg;
mod png;

use super::Image;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use std::io::Cursor;

/// Longest side of a file that is decoded, fal's own limit.
pub(crate) const MAX_SIDE: u32 = 14_142;

/// Bytes that one image may take while it is decoded, its file included.
const MAX_BYTES: u64 = 160_000_000;

/// Bytes that a file's notes, such as its EXIF, may take, and its pieces where they are unpacked one by one.
const MAX_NOTES: u64 = 16_000_000;

/// Pixels of an image that is made smaller: far more than any model generates.
const REDUCED_PIXELS: u64 = 16_000_000;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// A side is too long.
    #[error("a side is longer than {MAX_SIDE} pixels")]
    TooLong,
    /// It would take too much memory; at most so many pixels of its kind are taken.
    #[error("it has more than the {0} pixels that can be read of such a file")]
    TooManyPixels(u64),
    /// It is of a known format that is not read.
    #[error("{0} is not read: send JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF")]
    Unsupported(&'static str),
    /// It is damaged, or no image.
    #[error("{0}")]
    Unreadable(String),
}

impl From<image::ImageError> for DecodeError {
    fn from(error: image::ImageError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The image in a file, of an animation the first, upright as its EXIF says, without transparency (as Pillow's
/// `convert("RGB")`). One of several times [`REDUCED_PIXELS`] may come out smaller, in the same proportions.
///
/// # Errors
/// When it is no such file, or larger than can be read.
pub(crate) fn decode(bytes: &[u8]) -> Result<Image, DecodeError> {
    let unknown = || DecodeError::Unreadable("it is no image of a format that is known".into());
    let format = format::of(bytes).ok_or_else(unknown)?.map_err(DecodeError::Unsupported)?;
    if format == ImageFormat::Avif {
        let (image, orientation) = avif::decode(bytes)?;
        return Ok(upright(image.into(), orientation));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_NOTES);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if width.max(height) > MAX_SIDE {
        return Err(DecodeError::TooLong);
    }
    if format == ImageFormat::Jpeg && !jpeg::is_whole(bytes) {
        return Err(DecodeError::Unreadable("its end is missing: send the whole file".into()));
    }
    let orientation = decoder.orientation()?;
    let pixels = u64::from(width) * u64::from(height);
    let needed = whole_file(bytes, format, &decoder, orientation);
    let image = if needed <= MAX_BYTES {
        // What was let in by its size may take that.
        limits.max_alloc = Some(working(bytes, format, &decoder) + MAX_NOTES);
        decoder.set_limits(limits)?;
        DynamicImage::ImageRgb8(DynamicImage::from_decoder(decoder)?.into_rgb8())
    } else {
        drop(decoder);
        let factor = (pixels as f64 / REDUCED_PIXELS as f64).sqrt().ceil() as u32;
        let reduced = match format {
            ImageFormat::Png => png::reduced(bytes, factor)?,
            ImageFormat::Jpeg => jpeg::reduced(bytes, factor)?,
            _ => None,
        };
        // What a pixel takes is known only now.
        reduced.ok_or(DecodeError::TooManyPixels(MAX_BYTES * pixels / needed))?.into()
    };
    Ok(upright(image, orientation))
}

/// The transparency of a PNG or WebP file as an image: white where it is transparent, black where it is opaque.
///
/// # Errors
/// When it is no such file, has no transparency, or is larger than can be read.
pub(crate) fn decode_transparency(bytes: &[u8]) -> Result<Image, DecodeError> {
    let format = match format::of(bytes) {
        Some(Ok(format @ (ImageFormat::Png | ImageFormat::WebP))) => format,
        _ => return Err(DecodeError::Unreadable("it is neither PNG nor WebP".into())),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_NOTES);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    if !decoder.color_type().has_alpha() {
        let words = "it has no transparency: make the part to generate anew transparent";
        return Err(DecodeError::Unreadable(words.into()));
    }
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    // As RGBA and as the mask, beside what it is decoded to.
    let needed = bytes.len() as u64 + decoder.total_bytes() + 7 * pixels;
    if needed > MAX_BYTES {
        return Err(DecodeError::TooManyPixels(MAX_BYTES * pixels / needed));
    }
    limits.max_alloc = Some(working(bytes, format, &decoder) + MAX_NOTES);
    decoder.set_limits(limits)?;
    let image = DynamicImage::from_decoder(decoder)?.into_rgba8();
    let rgb = image.pixels().flat_map(|pixel| [255 - pixel.0[3]; 3]).collect();
    Ok(Image { width: width as usize, height: height as usize, rgb })
}

fn upright(mut image: DynamicImage, orientation: Orientation) -> Image {
    image.apply_orientation(orientation);
    let image: RgbImage = image.into_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    Image { width, height, rgb: image.into_raw() }
}

/// Bytes that a file takes at the worst moment of being decoded as it is.
fn whole_file(
    bytes: &[u8],
    format: ImageFormat,
    decoder: &impl ImageDecoder,
    orientation: Orientation,
) -> u64 {
    let (width, height) = decoder.dimensions();
    let rgb = 3 * u64::from(width) * u64::from(height);
    let decoded = decoder.total_bytes();
    let converted = if decoded == rgb { 0 } else { rgb };
    let turned = if orientation == Orientation::NoTransforms { 0 } else { rgb };
    bytes.len() as u64 + decoded + working(bytes, format, decoder).max(converted).max(turned)
}

/// Bytes that a decoder takes beside the file and what it writes.
fn working(bytes: &[u8], format: ImageFormat, decoder: &impl ImageDecoder) -> u64 {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let decoded = decoder.total_bytes();
    match format {
        // The file once more, and of a progressive file 16 bits of every sample.
        ImageFormat::Jpeg => {
            bytes.len() as u64 + if jpeg::is_progressive(bytes) { 2 * (3 * pixels).max(decoded) } else { 0 }
        }
        // Lossy, its planes; lossless, RGBA beside what comes of it.
        ImageFormat::WebP => 5 * pixels,
        // A frame that does not fill the image, which may be as large.
        ImageFormat::Gif => decoded,
        // Everything once more; of inks four instead of three.
        ImageFormat::Tiff => 2 * decoded,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::gradient;
    use super::super::{Format, encode};
    use super::*;

    #[test]
    fn transparency_is_white() {
        let pixels = [[9, 9, 9, 255], [9, 9, 9, 0], [9, 9, 9, 55]];
        let image = image::RgbaImage::from_vec(3, 1, pixels.concat()).expect("an image");
        let mut png = Cursor::new(Vec::new());
        image.write_to(&mut png, ImageFormat::Png).expect("a PNG");
        let mask = decode_transparency(png.get_ref()).expect("a mask");
        assert_eq!((mask.width, mask.height), (3, 1));
        assert_eq!(mask.rgb, [[0; 3], [255; 3], [200; 3]].concat());
        let opaque = encode(&gradient(), Format::Png, &[]).expect("a PNG");
        let jpeg = encode(&gradient(), Format::Jpeg(90), &[]).expect("a JPEG");
        for (bytes, words) in [(opaque, "no transparency"), (jpeg, "neither PNG nor WebP")] {
            assert!(decode_transparency(&bytes).expect_err(words).to_string().contains(words));
        }
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let whole = encode(&gradient(), Format::Png, &[]).expect("a PNG");
        assert_eq!(decode(&whole).expect("pixels"), gradient());
        for bytes in [&b""[..], b"GIF89a", b"BM", b"II*\0", b"hello", &whole[..whole.len() / 2]] {
            assert!(matches!(decode(bytes), Err(DecodeError::Unreadable(_))), "{bytes:?}");
        }
    }

    /// However much of it is missing, the last marker alone included, as Pillow refuses it.
    #[test]
    fn a_file_whose_end_is_missing_is_refused() {
        let image = DynamicImage::from(halves(64, 48));
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
            let whole = written(&image, format);
            decode(&whole).expect("pixels");
            for length in [whole.len() / 2, whole.len() * 9 / 10, whole.len() - 2] {
                // A PNG ends with a chunk that holds nothing: its pixels are all there.
                let has_pixels = format == ImageFormat::Png && length == whole.len() - 2;
                assert_eq!(decode(&whole[..length]).is_err(), !has_pixels, "{length} bytes of {format:?}");
            }
        }
    }

    /// What follows a JPEG, and what its segments hold, is not its end.
    #[test]
    fn the_end_of_a_jpeg_is_that_of_its_scans() {
        let whole = written(&DynamicImage::from(halves(64, 48)), ImageFormat::Jpeg);
        let thumbnail = [&[0xff, 0xe1, 0x00, 0x06, 0xff, 0xd9, 0xff, 0xd9], &whole[2..]].concat();
        let with_thumbnail = [&whole[..2], &thumbnail].concat();
        assert!(decode(&with_thumbnail).is_ok());
        assert!(decode(&[&whole[..], b"more"].concat()).is_ok());
        assert!(decode(&with_thumbnail[..with_thumbnail.len() / 2]).is_err());
    }

    /// A few bytes may claim any size.
    #[test]
    fn an_image_of_absurd_size_is_refused_before_it_is_made() {
        let mut header = encode(&gradient(), Format::Png, &[]).expect("a PNG");
        let chunk = 8 + 8; // signature, length and name
        header[chunk..chunk + 4].copy_from_slice(&60_000u32.to_be_bytes());
        header[chunk + 4..chunk + 8].copy_from_slice(&60_000u32.to_be_bytes());
        let mut crc = crc32(&header[chunk - 4..chunk + 13]).to_be_bytes();
        header[chunk + 13..chunk + 17].swap_with_slice(&mut crc);
        assert!(matches!(decode(&header), Err(DecodeError::TooLong)));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc: u32, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }

    /// Left half dark, right half light.
    fn halves(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, _| {
            image::Rgb(if x < width / 2 { [20, 40, 60] } else { [220, 240, 250] })
        })
    }

    fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("a file");
        bytes.into_inner()
    }

    #[test]
    fn an_image_that_is_made_smaller_is_the_same_image() {
        for (image, format) in [
            (DynamicImage::from(halves(1001, 403)), ImageFormat::Png),
            (DynamicImage::from(DynamicImage::from(halves(1001, 403)).into_rgba16()), ImageFormat::Png),
            (DynamicImage::from(halves(1001, 403)), ImageFormat::Jpeg),
        ] {
            let bytes = written(&image, format);
            let reduced = match format {
                ImageFormat::Png => png::reduced(&bytes, 4).expect("a PNG"),
                _ => jpeg::reduced(&bytes, 4).expect("a JPEG"),
            };
            let reduced = reduced.expect("a smaller image");
            assert_eq!(reduced.dimensions(), (251, 101), "{format:?}");
            for (x, color) in [(20, [20, 40, 60]), (230, [220, 240, 250])] {
                let found = reduced.get_pixel(x, 50).0;
                assert!(found.iter().zip(color).all(|(a, b)| a.abs_diff(b) <= 2), "{format:?} {found:?}");
            }
        }
    }
}
