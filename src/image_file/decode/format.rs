//! Detects the format of an image file by its first bytes.

use image::ImageFormat;

/// Formats whose files are decoded.
const READ: [ImageFormat; 7] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::WebP,
    ImageFormat::Avif,
    ImageFormat::Gif,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];

/// Brands of the ISO media files that hold images, and what people call such files.
const BRANDS: [(&[u8], Result<ImageFormat, &str>); 6] = [
    (b"avif", Ok(ImageFormat::Avif)),
    (b"avis", Ok(ImageFormat::Avif)),
    (b"heic", Err("HEIC")),
    (b"heix", Err("HEIC")),
    (b"hevc", Err("HEIC")),
    (b"jxl ", Err("JPEG XL")),
];

/// Beginnings of files that people take for images, or that are images, and are not read.
const OTHERS: [(&[u8], &str); 8] = [
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG"),
    (b"%PDF", "PDF"),
    (b"8BPS", "PSD"),
    (b"\0\0\x01\0", "ICO"),
];

/// The format of a file: one that is decoded, or the name of one that is not. `None` if it is not recognised.
pub(super) fn of(bytes: &[u8]) -> Option<Result<ImageFormat, &'static str>> {
    if let Some(found) = by_brand(bytes).or_else(|| begins(bytes).map(Err)) {
        return Some(found);
    }
    let format = image::guess_format(bytes).ok()?;
    let name = format.extensions_str().first().copied().unwrap_or("this format");
    Some(if READ.contains(&format) { Ok(format) } else { Err(name) })
}

fn by_brand(bytes: &[u8]) -> Option<Result<ImageFormat, &'static str>> {
    if bytes.get(4..8)? != b"ftyp" {
        return None;
    }
    // The main brand, a version, and whatever else the file can be read as.
    let size = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let mut brands =
        bytes.get(8..size.min(bytes.len()))?.chunks_exact(4).enumerate().filter(|(at, _)| *at != 1);
    brands.find_map(|(_, brand)| Some(BRANDS.iter().find(|(known, _)| *known == brand)?.1))
}

fn begins(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.trim_ascii_start();
    let known = |(beginning, _): &&(&[u8], &str)| bytes.starts_with(beginning) || text.starts_with(beginning);
    OTHERS.iter().find(known).map(|(_, name)| *name)
}
