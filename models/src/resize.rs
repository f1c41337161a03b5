//! Resizing with antialiasing to Pillow's very bytes, for RGB images.
//!
//! Classifiers saw images that Pillow had resized, and diffusers resizes with Pillow, so this is Pillow's
//! `ImagingResample` (src/libImaging/Resample.c) in its 8-bit form: weights with 22 fractional bits, one pass along
//! rows, one along columns, bytes in between. The crate `fast_image_resize` keeps 16-bit weights instead, which moves up to a quarter of the bytes of a
//! noisy image by one level.

use crate::Image;
use std::f64::consts::PI;
use std::ops::Range;

/// Fractional bits of a weight: what 32 bits leave beside a byte and a sign, with one to spare.
const BITS: u32 = 32 - 8 - 2;

/// What an output pixel is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    /// A triangle over two pixels (`Image.BILINEAR`).
    Bilinear,
    /// A cubic over four (`Image.BICUBIC`).
    Bicubic,
    /// A windowed sinc over six (`Image.LANCZOS`).
    Lanczos,
}

impl Filter {
    /// Pixels from the middle to where the filter ends.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Bicubic => cubic(x.abs()),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// Keys' cubic with the slope -1/2 at 1, of a distance; in Pillow's order of operations.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x {
        ..1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        ..2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

/// The image at another size; its aspect is not kept.
pub(crate) fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Image {
    resize_part(image, (width, height), &(0..width), &(0..height), filter)
}

/// Some columns and rows of the image at another size, for the work and memory of these alone.
pub(crate) fn resize_part(
    image: &Image,
    (width, height): (usize, usize),
    columns: &Range<usize>,
    rows: &Range<usize>,
    filter: Filter,
) -> Image {
    let Image { width: w, height: h, rgb } = image;
    let narrow = |rgb: &[u8]| along_rows(rgb, *w, &Span::all(*w, width, columns, filter));
    let lower = |rgb: &[u8], width| along_columns(rgb, width, &Span::all(*h, height, rows, filter));
    // Since Pillow 13 (its pull request 9549): which pass is first shows, since both round.
    let much_lower = *h > height && h - height > 2 * w.saturating_sub(width);
    let rgb = match much_lower {
        true => narrow(&lower(rgb, *w)),
        false => lower(&narrow(rgb), columns.len()),
    };
    Image { width: columns.len(), height: rows.len(), rgb }
}

/// The inputs of one output position.
struct Span {
    first: usize,
    weights: Vec<i64>,
}

impl Span {
    /// Those of the positions `part`: `precompute_coeffs` and `normalize_coeffs_8bpc`. Pillow leaves out a pass that
    /// changes no size, and its bytes are those of a pass that copies.
    fn all(input: usize, output: usize, part: &Range<usize>, filter: Filter) -> Vec<Self> {
        if input == output {
            return part.clone().map(|first| Self { first, weights: vec![1 << BITS] }).collect();
        }
        let scale = input as f64 / output as f64;
        // Shrinking widens the filter, so that every input counts; enlarging interpolates.
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let span = |index: usize| {
            let center = (index as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let weight = |at: usize| filter.at((at as f64 - center + 0.5) * (1.0 / stretch));
            let weights: Vec<f64> = (first..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: &f64| {
                let scaled = weight / sum * f64::from(1 << BITS);
                (scaled + 0.5f64.copysign(scaled)) as i64
            };
            Self { first, weights: weights.iter().map(fixed).collect() }
        };
        part.clone().map(span).collect()
    }

    /// The weighted sum of `bytes` from `start`, `stride` apart.
    fn apply(&self, bytes: &[u8], start: usize, stride: usize) -> u8 {
        let inputs = bytes[start + self.first * stride..].iter().step_by(stride);
        let sum: i64 = inputs.zip(&self.weights).map(|(byte, weight)| i64::from(*byte) * weight).sum();
        ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
    }
}

fn along_rows(rgb: &[u8], width: usize, spans: &[Span]) -> Vec<u8> {
    let row = |row: &[u8]| -> Vec<u8> {
        spans.iter().flat_map(|span| [0, 1, 2].map(|channel| span.apply(row, channel, 3))).collect()
    };
    rgb.chunks(3 * width).flat_map(row).collect()
}

fn along_columns(rgb: &[u8], width: usize, spans: &[Span]) -> Vec<u8> {
    let bytes = 3 * width;
    spans.iter().flat_map(|span| (0..bytes).map(move |column| span.apply(rgb, column, bytes))).collect()
}
