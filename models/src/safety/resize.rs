//! Bilinear resizing with antialiasing to Pillow's very bytes, for RGB pictures.
//!
//! The classifier saw pictures that Pillow had resized, so this is Pillow's `ImagingResample` (src/libImaging/
//! Resample.c) in its 8-bit form: weights with 22 fractional bits, one pass along rows, one along columns, bytes in
//! between. The crate `fast_image_resize` keeps 16-bit weights instead, which moves up to a quarter of the bytes of a
//! noisy picture by one level.

use crate::Picture;

/// Fractional bits of a weight: what 32 bits leave beside a byte and a sign, with one to spare.
const BITS: u32 = 32 - 8 - 2;

/// The picture at another size; its aspect is not kept.
pub(super) fn resize(picture: &Picture, width: usize, height: usize) -> Picture {
    let Picture { width: w, height: h, rgb } = picture;
    let narrow = |rgb: Vec<u8>| match width == *w {
        true => rgb,
        false => along_rows(&rgb, *w, &Span::all(*w, width)),
    };
    let lower = |rgb: Vec<u8>, width| match height == *h {
        true => rgb,
        false => along_columns(&rgb, width, &Span::all(*h, height)),
    };
    // Since Pillow 13 (its pull request 9549): which pass is first shows, since both round.
    let much_lower = *h > height && h - height > 2 * w.saturating_sub(width);
    let rgb = match much_lower {
        true => narrow(lower(rgb.clone(), *w)),
        false => lower(narrow(rgb.clone()), width),
    };
    Picture { width, height, rgb }
}

/// The inputs of one output position.
struct Span {
    first: usize,
    weights: Vec<i64>,
}

impl Span {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc` of the triangle filter.
    fn all(input: usize, output: usize) -> Vec<Self> {
        let scale = input as f64 / output as f64;
        // Shrinking widens the triangle, so that every input counts; enlarging interpolates.
        let support = scale.max(1.0);
        let span = |index: usize| {
            let center = (index as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let triangle = |at: usize| (1.0 - ((at as f64 - center + 0.5) * (1.0 / support)).abs()).max(0.0);
            let weights: Vec<f64> = (first..end).map(triangle).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: &f64| (weight / sum * f64::from(1 << BITS) + 0.5) as i64;
            Self { first, weights: weights.iter().map(fixed).collect() }
        };
        (0..output).map(span).collect()
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
